//! The examples of RFC 9449.

use warrant_dpop::{At, Refused, Wanted, check, token_hash};

/// Source: RFC 9449 §4.1, figure 2.
const FOR_A_TOKEN: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
/// Source: RFC 9449 §7.1, figure 13.
const WITH_A_TOKEN: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
/// Source: RFC 9449 §7.1.
const TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
/// The thumbprint of the key of both. Source: RFC 9449 §6.1.
const THUMBPRINT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

#[test]
fn the_example_of_a_token_request_holds() {
    let at = At::parse("https://server.example.com/token").unwrap();
    let wanted = Wanted {
        method: "POST",
        at: &at,
        token: None,
        now_s: 1_562_262_616,
    };
    let proof = check([FOR_A_TOKEN.as_bytes()], &wanted).unwrap().unwrap();
    assert_eq!(proof.jkt(), THUMBPRINT);
    assert_eq!(proof.nonce(), None);
}

#[test]
fn the_example_of_a_request_with_a_token_holds_for_that_token() {
    let at = At::parse("https://resource.example.org/protectedresource").unwrap();
    let judge = |token| {
        let wanted = Wanted {
            method: "GET",
            at: &at,
            token: Some(token),
            now_s: 1_562_262_618,
        };
        check([WITH_A_TOKEN.as_bytes()], &wanted)
    };
    assert_eq!(judge(TOKEN).unwrap().unwrap().jkt(), THUMBPRINT);
    assert_eq!(judge("another"), Err(Refused::Token));
    let hash = "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo";
    assert_eq!(token_hash(TOKEN), hash);
}

#[test]
fn an_example_is_over_by_now_and_of_no_other_request() {
    let judge = |method, url, now_s| {
        let at = At::parse(url).unwrap();
        let wanted = Wanted {
            method,
            at: &at,
            token: None,
            now_s,
        };
        check([FOR_A_TOKEN.as_bytes()], &wanted).err()
    };
    let (own, then) = ("https://server.example.com/token", 1_562_262_616);
    assert_eq!(judge("POST", own, then + 61), Some(Refused::Time));
    assert_eq!(judge("GET", own, then), Some(Refused::Method));
    let other = "https://server.example.com/token2";
    assert_eq!(judge("POST", other, then), Some(Refused::Address));
}
