//! A program that does nothing but write down when it starts: its first
//! instructions read the monotonic clock, the next write what was read to
//! standard output. There is no loader, no library and no runtime before
//! them, so that the time is that of the start and of nothing else.

/// Where it is loaded.
const BASE: u64 = 0x40_0000;
const ELF_HEADER_BYTES: u16 = 64;
const PROGRAM_HEADER_BYTES: u16 = 56;
const HEADER_BYTES: u64 = (ELF_HEADER_BYTES + PROGRAM_HEADER_BYTES) as u64;

/// The machine's number and the program, as instructions:
/// clock_gettime(CLOCK_MONOTONIC, stack); write(1, stack, 16); exit(0).
/// Source: elf(5); syscall(2), the architectures' conventions.
#[cfg(target_arch = "x86_64")]
const MACHINE: Option<(u16, &[u8])> = Some((
    62,
    &[
        0x48, 0x83, 0xec, 0x10, // sub rsp, 16
        0xb8, 0xe4, 0x00, 0x00, 0x00, // mov eax, 228
        0xbf, 0x01, 0x00, 0x00, 0x00, // mov edi, 1
        0x48, 0x89, 0xe6, // mov rsi, rsp
        0x0f, 0x05, // syscall
        0xb8, 0x01, 0x00, 0x00, 0x00, // mov eax, 1
        0xbf, 0x01, 0x00, 0x00, 0x00, // mov edi, 1
        0x48, 0x89, 0xe6, // mov rsi, rsp
        0xba, 0x10, 0x00, 0x00, 0x00, // mov edx, 16
        0x0f, 0x05, // syscall
        0xb8, 0x3c, 0x00, 0x00, 0x00, // mov eax, 60
        0x31, 0xff, // xor edi, edi
        0x0f, 0x05, // syscall
    ],
));
#[cfg(target_arch = "aarch64")]
const MACHINE: Option<(u16, &[u8])> = Some((
    183,
    &[
        0xff, 0x43, 0x00, 0xd1, // sub sp, sp, #16
        0x28, 0x0e, 0x80, 0xd2, // mov x8, #113
        0x20, 0x00, 0x80, 0xd2, // mov x0, #1
        0xe1, 0x03, 0x00, 0x91, // mov x1, sp
        0x01, 0x00, 0x00, 0xd4, // svc #0
        0x08, 0x08, 0x80, 0xd2, // mov x8, #64
        0x20, 0x00, 0x80, 0xd2, // mov x0, #1
        0xe1, 0x03, 0x00, 0x91, // mov x1, sp
        0x02, 0x02, 0x80, 0xd2, // mov x2, #16
        0x01, 0x00, 0x00, 0xd4, // svc #0
        0xa8, 0x0b, 0x80, 0xd2, // mov x8, #93
        0x00, 0x00, 0x80, 0xd2, // mov x0, #0
        0x01, 0x00, 0x00, 0xd4, // svc #0
    ],
));
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const MACHINE: Option<(u16, &[u8])> = None;

/// The program's file; `None` for a machine that it was not written for.
pub(crate) fn program() -> Option<Vec<u8>> {
    let (machine, code) = MACHINE?;
    let bytes = HEADER_BYTES + code.len() as u64;
    let mut file = b"\x7fELF".to_vec();
    // 64 bits, little endian, version 1.
    file.extend([2, 1, 1]);
    file.resize(16, 0);
    file.extend(2_u16.to_le_bytes()); // An executable file.
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    file.extend((BASE + HEADER_BYTES).to_le_bytes()); // The first instruction.
    file.extend(u64::from(ELF_HEADER_BYTES).to_le_bytes()); // The program header.
    file.extend(0_u64.to_le_bytes()); // No sections.
    file.extend(0_u32.to_le_bytes());
    for number in [ELF_HEADER_BYTES, PROGRAM_HEADER_BYTES, 1, 0, 0, 0] {
        file.extend(number.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes()); // To be loaded,
    file.extend(5_u32.to_le_bytes()); // read and executed:
    for number in [0, BASE, BASE, bytes, bytes, 0x1000] {
        file.extend(number.to_le_bytes());
    }
    file.extend(code);
    Some(file)
}
