//! Prints docs/configuration.md: `cargo run -p voltron-core --example configuration > docs/configuration.md`.
#![allow(missing_docs)]

fn main() {
    print!("{}", voltron_core::config::render_docs());
}
