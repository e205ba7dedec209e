//! Standard output and standard error of our programs. Their reader may be gone at any time (`shield serve | head -1`),
//! and the standard library's `println!` and `eprintln!` panic then. A program of ours writes through this module alone;
//! `cargo xtask tidy` refuses the macros in product code.

use std::io::{self, Write};

/// Writes bytes to standard output. `Ok(false)`: the reader is gone, which ends a command that only prints and must not
/// end a server.
pub fn out(bytes: &[u8]) -> io::Result<bool> {
    written(&mut io::stdout().lock(), bytes)
}

/// Writes one line to standard output, as [`out`] does.
pub fn line(text: &str) -> io::Result<bool> {
    out(format!("{text}\n").as_bytes())
}

/// Writes one line to standard error. If that fails there is no place left to report it, so the failure is ignored.
pub fn note(text: &str) {
    let _ = written(&mut io::stderr().lock(), format!("{text}\n").as_bytes());
}

fn written(to: &mut impl Write, bytes: &[u8]) -> io::Result<bool> {
    match to.write_all(bytes).and_then(|()| to.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe whose end fails in one way.
    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_gone_reader_is_no_error_and_a_full_disk_is_one() {
        let mut kept = Vec::new();
        assert!(written(&mut kept, b"line\n").expect("a vector takes everything"));
        assert_eq!(kept, b"line\n");
        assert!(!written(&mut Broken(io::ErrorKind::BrokenPipe), b"x").expect("a gone reader is no error"));
        let full = written(&mut Broken(io::ErrorKind::StorageFull), b"x").expect_err("a full disk is an error");
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    }
}
