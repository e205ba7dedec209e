//! The types that a key can have: how each is read from TOML, written back, and written as an Erlang term.

use toml::de::DeValue;

/// A type that a key can have.
pub(super) trait Value: Sized {
    /// The type's name for people, e.g. `integer`.
    fn kind() -> String;
    /// Reads it; `Err` says what is wrong with the value itself.
    fn read(value: &DeValue<'_>) -> Result<Self, String>;
    /// As TOML; `None` if unset.
    fn toml(&self) -> Option<String>;
    /// As an Erlang term.
    fn erlang(&self) -> String;
    /// Its number, for the check of the range.
    fn number(&self) -> Option<u64> {
        None
    }
}

fn expected<T: Value>(found: &DeValue<'_>) -> String {
    format!("expected {}, found {}", T::kind(), found.type_str())
}

macro_rules! integer {
    ($($ty:ty),*) => {$(
        impl Value for $ty {
            fn kind() -> String {
                "integer".into()
            }
            fn read(value: &DeValue<'_>) -> Result<Self, String> {
                let integer = value.as_integer().ok_or_else(|| expected::<Self>(value))?;
                let digits = integer.as_str();
                Self::from_str_radix(digits, integer.radix())
                    .map_err(|_| format!("{digits} does not fit: expected 0 to {}", <$ty>::MAX))
            }
            fn toml(&self) -> Option<String> {
                Some(self.to_string())
            }
            fn erlang(&self) -> String {
                self.to_string()
            }
            fn number(&self) -> Option<u64> {
                Some(u64::from(*self))
            }
        }
    )*};
}
integer!(u16, u32, u64);

impl Value for bool {
    fn kind() -> String {
        "boolean".into()
    }
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| expected::<Self>(value))
    }
    fn toml(&self) -> Option<String> {
        Some(self.to_string())
    }
    fn erlang(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    fn kind() -> String {
        "string".into()
    }
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value.as_str().ok_or_else(|| expected::<Self>(value))?;
        if text.is_empty() {
            return Err("may not be empty: leave the key out instead".into());
        }
        Ok(text.to_owned())
    }
    fn toml(&self) -> Option<String> {
        Some(toml::Value::String(self.clone()).to_string())
    }
    fn erlang(&self) -> String {
        super::erlang::binary(self)
    }
}

impl Value for Vec<String> {
    fn kind() -> String {
        "list of strings".into()
    }
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let items = value.as_array().ok_or_else(|| expected::<Self>(value))?;
        items.iter().map(|item| String::read(item.get_ref())).collect()
    }
    fn toml(&self) -> Option<String> {
        let items: Vec<String> = self.iter().filter_map(Value::toml).collect();
        Some(format!("[{}]", items.join(", ")))
    }
    fn erlang(&self) -> String {
        let items: Vec<String> = self.iter().map(Value::erlang).collect();
        format!("[{}]", items.join(", "))
    }
}

impl<T: Value> Value for Option<T> {
    fn kind() -> String {
        format!("{}, may be left out", T::kind())
    }
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        T::read(value).map(Some)
    }
    fn toml(&self) -> Option<String> {
        self.as_ref().and_then(Value::toml)
    }
    fn erlang(&self) -> String {
        self.as_ref().map_or_else(|| "undefined".into(), Value::erlang)
    }
    fn number(&self) -> Option<u64> {
        self.as_ref().and_then(Value::number)
    }
}

/// Makes an enum whose variants are words in the file.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every word with its value.
            pub const ALL: &'static [(&'static str, Self)] = &[$(($word, Self::$variant)),+];

            /// The word in the file.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl Value for $name {
            fn kind() -> String {
                let words: Vec<String> = Self::ALL.iter().map(|(word, _)| format!("\"{word}\"")).collect();
                words.join(" or ")
            }
            fn read(value: &DeValue<'_>) -> Result<Self, String> {
                let word = value.as_str().ok_or_else(|| expected::<Self>(value))?;
                let found = Self::ALL.iter().find(|(known, _)| *known == word);
                found.map(|(_, found)| *found).ok_or_else(|| format!("expected {}, found {word:?}", Self::kind()))
            }
            fn toml(&self) -> Option<String> {
                Some(format!("\"{}\"", self.as_str()))
            }
            fn erlang(&self) -> String {
                self.as_str().to_owned()
            }
        }
    )*};
}

words! {
    /// Who must sign messages.
    Signatures {
        /// Tokens with `cnf` sign every PUB; tokens without one need not.
        Optional = "optional",
        /// Tokens without `cnf` are refused.
        Required = "required",
    }

    /// How policy instances are shared.
    Isolation {
        /// One instance a worker, tenant and policy version.
        Reuse = "reuse",
        /// A fresh instance for every message.
        Message = "message",
    }

    /// What a verdict does.
    PolicyMode {
        /// It decides.
        Enforce = "enforce",
        /// It is only counted.
        Shadow = "shadow",
    }

    /// How log lines look.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }

    /// The least important lines that are written.
    LogLevel {
        /// Nothing.
        Off = "off",
        /// Failures that somebody must look at.
        Error = "error",
        /// What may become one.
        Warn = "warn",
        /// Starts, stops, reconnects.
        Info = "info",
        /// What a developer asks for.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

/// The policy of tenants that have none of their own. This build has no policy host, so there is one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DefaultPolicy {
    /// Every message passes.
    None,
}

impl Value for DefaultPolicy {
    fn kind() -> String {
        "\"none\"".into()
    }
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some("none") => Ok(Self::None),
            Some(path) => Err(format!(
                "this build has no policy host, so the policy {path:?} cannot run; \
                 write default = \"none\" to let every message pass"
            )),
            None => Err(expected::<Self>(value)),
        }
    }
    fn toml(&self) -> Option<String> {
        Some("\"none\"".into())
    }
    fn erlang(&self) -> String {
        "none".into()
    }
}
