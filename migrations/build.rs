//! The migration files are embedded: rebuild when one is added or changed.
fn main() {
    println!("cargo:rerun-if-changed=broker");
    println!("cargo:rerun-if-changed=auth");
}
