//! The words of a scenario file: durations, pinned or drawn values, links between hosts, marks, oracles. Each parses
//! from text alone, so that an error points at the very value.

mod hosts;
mod names;

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

use crate::seed::Draw;
pub use hosts::{ANY_CLIENT, LinkWords, Target};
pub use names::{MarkName, OracleName};

/// A duration in words: `800us`, `250ms`, `1.5s`, `2m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// So many milliseconds.
    pub const fn ms(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// Whole milliseconds.
    pub fn as_ms(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.0.as_micros();
        if us.is_multiple_of(1_000_000) {
            write!(f, "{}s", us / 1_000_000)
        } else if us.is_multiple_of(1_000) {
            write!(f, "{}ms", us / 1_000)
        } else {
            write!(f, "{us}us")
        }
    }
}

/// Something that stands in a scenario as one value.
pub trait Word: Clone + Sized {
    /// What is expected, for error texts.
    const EXPECTED: &'static str;
    /// From text.
    fn parse(text: &str) -> Option<Self>;
    /// From a bare integer.
    fn from_int(_number: i64) -> Option<Self> {
        None
    }
    /// One value of `low..=high`; `None` if such a range makes no sense.
    fn between(low: &Self, high: &Self, draw: &mut Draw) -> Option<Self>;
    /// True if `low..high` is in order.
    fn ordered(low: &Self, high: &Self) -> bool;
}

impl Word for Span {
    const EXPECTED: &'static str = "a duration such as 250ms, 1.5s or 2m";

    fn parse(text: &str) -> Option<Self> {
        let at = text.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, unit) = text.split_at(at);
        let us_per_unit = match unit {
            "us" => 1.0,
            "ms" => 1e3,
            "s" => 1e6,
            "m" => 6e7,
            _ => return None,
        };
        let us = number.parse::<f64>().ok()? * us_per_unit;
        // A day is far beyond any run; the cast cannot lose anything below it.
        (us.is_finite() && us <= 86_400e6).then(|| Self(Duration::from_micros(us.round() as u64)))
    }

    fn between(low: &Self, high: &Self, draw: &mut Draw) -> Option<Self> {
        Some(Self::ms(draw.between(low.as_ms(), high.as_ms())))
    }

    fn ordered(low: &Self, high: &Self) -> bool {
        low <= high
    }
}

/// A signed duration: `3s`, `-250ms`. Clocks are shifted by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift {
    /// How much.
    pub span: Span,
    /// Backwards.
    pub back: bool,
}

impl Shift {
    /// Whole milliseconds, signed.
    pub fn as_ms(self) -> i64 {
        let ms = i64::try_from(self.span.as_ms()).unwrap_or(i64::MAX);
        if self.back { -ms } else { ms }
    }

    const fn of_ms(ms: i64) -> Self {
        Self { span: Span::ms(ms.unsigned_abs()), back: ms < 0 }
    }
}

impl fmt::Display for Shift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.back { "-" } else { "" }, self.span)
    }
}

impl Word for Shift {
    const EXPECTED: &'static str = "a duration such as 250ms or -3s";

    fn parse(text: &str) -> Option<Self> {
        let (back, span) = text.strip_prefix('-').map_or((false, text), |span| (true, span));
        Some(Self { span: Span::parse(span)?, back })
    }

    fn between(low: &Self, high: &Self, draw: &mut Draw) -> Option<Self> {
        let width = high.as_ms().saturating_sub(low.as_ms()).unsigned_abs();
        Some(Self::of_ms(low.as_ms().saturating_add_unsigned(draw.between(0, width))))
    }

    fn ordered(low: &Self, high: &Self) -> bool {
        low.as_ms() <= high.as_ms()
    }
}

impl Word for u32 {
    const EXPECTED: &'static str = "a number";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn from_int(number: i64) -> Option<Self> {
        number.try_into().ok()
    }

    fn between(low: &Self, high: &Self, draw: &mut Draw) -> Option<Self> {
        u32::try_from(draw.between(u64::from(*low), u64::from(*high))).ok()
    }

    fn ordered(low: &Self, high: &Self) -> bool {
        low <= high
    }
}

/// How much of a link a partition cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Every host on the left is cut from every host on the right.
    All,
    /// One drawn host on the left is cut off.
    IsolateOne,
    /// A drawn half of the left is cut off, at least one host.
    Halves,
    /// One drawn host on the left hears the right, but is not heard.
    OneWay,
    /// One host on the left after the other, in a drawn order, and healed in another.
    Swizzle,
}

impl Shape {
    /// Every shape, with its words.
    pub const ALL: [(&'static str, Self); 5] = [
        ("all", Self::All),
        ("isolate one", Self::IsolateOne),
        ("halves", Self::Halves),
        ("one way", Self::OneWay),
        ("swizzle", Self::Swizzle),
    ];
}

impl Word for Shape {
    const EXPECTED: &'static str = "\"all\", \"isolate one\", \"halves\", \"one way\" or \"swizzle\"";

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(words, _)| *words == text).map(|(_, shape)| *shape)
    }

    fn between(_low: &Self, _high: &Self, _draw: &mut Draw) -> Option<Self> {
        None
    }

    fn ordered(_low: &Self, _high: &Self) -> bool {
        false
    }
}

/// A value that is pinned, or drawn from the seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drawn<T> {
    /// A plain value.
    Pinned(T),
    /// `"a..b"`, both ends included.
    Range(T, T),
    /// One of a list.
    OneOf(Vec<T>),
}

impl<T: Word> Drawn<T> {
    /// The value for this stream.
    pub fn draw(&self, draw: &mut Draw) -> T {
        match self {
            Self::Pinned(value) => value.clone(),
            Self::Range(low, high) => T::between(low, high, draw).unwrap_or_else(|| low.clone()),
            Self::OneOf(values) => draw.pick(values).clone(),
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        if let Some(value) = T::parse(text) {
            return Some(Self::Pinned(value));
        }
        let (low, high) = text.split_once("..")?;
        let (low, high) = (T::parse(low)?, T::parse(high)?);
        T::ordered(&low, &high).then_some(Self::Range(low, high))
    }
}

impl<'de, T: Word> Deserialize<'de> for Drawn<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words<T>(PhantomData<T>);
        impl<'de, T: Word> Visitor<'de> for Words<T> {
            type Value = Drawn<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}, a range \"low..high\", or a list to draw from", T::EXPECTED)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Drawn<T>, E> {
                let value = T::from_int(number).ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self));
                value.map(Drawn::Pinned)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Drawn<T>, E> {
                Drawn::from_text(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Drawn<T>, A::Error> {
                let mut values = Vec::new();
                while let Some(item) = items.next_element::<One<T>>()? {
                    values.push(item.0);
                }
                if values.is_empty() {
                    return Err(de::Error::invalid_length(0, &"at least one value to draw from"));
                }
                Ok(Drawn::OneOf(values))
            }
        }
        deserializer.deserialize_any(Words(PhantomData))
    }
}

/// Exactly one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct One<T>(pub T);

impl<'de, T: Word> Deserialize<'de> for One<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words<T>(PhantomData<T>);
        impl<T: Word> Visitor<'_> for Words<T> {
            type Value = One<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<One<T>, E> {
                T::from_int(number).map(One).ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<One<T>, E> {
                T::parse(text).map(One).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Words(PhantomData))
    }
}

impl Serialize for One<Shift> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Serialize for One<Span> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
