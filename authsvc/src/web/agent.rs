//! What a browser says of itself, in a few words.

/// Browsers by what they say, the more particular first.
const BROWSERS: [(&str, &str); 9] = [
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chromium/", "Chromium"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
];
/// Systems by what browsers say of them, the more particular first.
const SYSTEMS: [(&str, &str); 8] = [
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
    ("BSD", "BSD"),
];
/// The most characters of one that is not known.
const LONGEST: usize = 40;

/// The browser and system that `header` (`User-Agent`) speaks of.
pub(crate) fn short(header: Option<&str>) -> String {
    let text = header.unwrap_or_default();
    let known = |table: &'static [(&str, &str)]| {
        let mut table = table.iter();
        table
            .find(|(sign, _)| text.contains(sign))
            .map(|(_, name)| *name)
    };
    match (known(&BROWSERS), known(&SYSTEMS)) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(browser), None) => browser.to_owned(),
        (None, _) => {
            let plain = |c: &char| c.is_ascii_graphic() || *c == ' ';
            let some: String = text.chars().filter(plain).take(LONGEST).collect();
            match some.trim() {
                "" => "A browser".to_owned(),
                some => some.to_owned(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_told_in_a_few_words() {
        let webkit = "AppleWebKit/537.36 (KHTML, like Gecko)";
        for (header, words) in [
            (
                format!("Mozilla/5.0 (X11; Linux x86_64) {webkit} Chrome/156.0.0.0 Safari/537.36"),
                "Chrome on Linux",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; rv:150.0) Gecko/20100101 Firefox/150.0".into(),
                "Firefox on Windows",
            ),
            (
                format!("Mozilla/5.0 (Linux; Android 14) {webkit} Chrome/156.0 Mobile Safari/537"),
                "Chrome on Android",
            ),
            ("curl/8.0".into(), "curl/8.0"),
            ("x\u{1b}[31m\n<b>".into(), "x[31m<b>"),
            ("a".repeat(1000), &"a".repeat(40)),
            (String::new(), "A browser"),
        ] {
            assert_eq!(short(Some(&header)), words);
        }
        assert_eq!(short(None), "A browser");
    }
}
