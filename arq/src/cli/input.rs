//! Reading arguments and files, and writing lines: the parts that several commands share.

use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use voltron_core::console;

use crate::failure::Failure;

/// The most that is read from a file or from standard input, in bytes.
const INPUT_BYTES_MAX: u64 = 16 << 20;

/// Reads a file whole.
pub(super) fn file(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: io::Error| Failure::bad_use(format!("cannot read {}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(failed)?;
    limited(file).map_err(failed)
}

/// Reads a text file whole.
pub(super) fn text_file(path: &Path) -> Result<String, Failure> {
    let bytes = file(path)?;
    String::from_utf8(bytes).map_err(|_| Failure::bad_use(format!("{} is not UTF-8", path.display())))
}

/// Reads standard input to its end.
pub(super) fn stdin() -> Result<Vec<u8>, Failure> {
    limited(io::stdin().lock()).map_err(|error| Failure::bad_use(format!("cannot read standard input: {error}")))
}

fn limited(from: impl io::Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > INPUT_BYTES_MAX {
        return Err(io::Error::other("larger than 16 MiB"));
    }
    Ok(bytes)
}

/// Writes one line to standard output. A reader that went away (`arq sub | head`) is no failure: false says to stop.
pub(super) fn line(text: &str) -> Result<bool, Failure> {
    bytes(format!("{text}\n").as_bytes())
}

/// Writes bytes to standard output; false: nobody reads any more.
pub(super) fn bytes(bytes: &[u8]) -> Result<bool, Failure> {
    console::out(bytes).map_err(|error| Failure::bad_use(format!("cannot write to standard output: {error}")))
}

/// Writes one line to standard error; if that fails there is nowhere to say so.
pub(super) fn note(text: &str) {
    console::note(text);
}

/// Parses `90s`, `15m`, `12h`, `30d`, or plain seconds: 1 s to 10 years.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        unit => return Err(format!("{unit:?} is no unit: write s, m, h or d")),
    };
    let number: u64 = digits.parse().map_err(|_| "write a number and s, m, h or d, e.g. 90s or 12h".to_owned())?;
    let seconds = number.checked_mul(factor).filter(|seconds| (1..=3650 * 24 * 3600).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| "must be between 1s and 3650d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_bounds() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
        }
        for bad in ["", "s", "0s", "1w", "-1s", "1.5h", "99999d", "18446744073709551615d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
