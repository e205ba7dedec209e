//! The backstop behind injection: in a process that simulates, the operating system's entropy and clocks are made from
//! the arguments, so that what escaped the seams is at least the same in every run of a seed, and differs between the
//! two processes of `sim meta`, which thereby find it.
//!
//! The binary defines `getrandom`, `getentropy`, `clock_gettime` and `syscall` itself; the linker prefers these over the C
//! library's. Until [`begin`] is called each passes straight through. After it they answer from atomics, and virtual
//! time stands still between two calls of [`advance`]: never call [`begin`] in a process that waits for real timers or
//! children, or for sockets by a runtime's clock. (A blocking read, whose limit is the kernel's, is none of these: so are
//! the Elixir cores driven.)
//!
//! Under `--cfg madsim` the first three are madsim's own, made from the seed whenever a host runs; `syscall`, which it lacks, is
//! ours there too.
//!
//! # Safety
//! - Each function has exactly the C prototype that it replaces, on 64-bit Linux. `syscall` is variadic in C; on the
//!   calling conventions of x86-64 and AArch64 its arguments, all integers or pointers, arrive in the same registers as
//!   those of a function with six `c_long`s, and those that a caller did not pass are passed on unread.
//! - Memory is written only through the caller's own out-pointers, within the length that the caller gave, after a check
//!   for null.
//! - The real functions are found with `dlsym(RTLD_NEXT, …)`, called with NUL-terminated names, and called with the
//!   arguments that came in.
//! - Nothing here allocates, locks or panics, so it may run inside an allocator or before `main`.
#![allow(unsafe_code)]
#![cfg_attr(
    madsim,
    allow(dead_code, unused_imports, reason = "what the functions are made of that are not ours there")
)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static ON: AtomicBool = AtomicBool::new(false);
static SALT: AtomicU64 = AtomicU64::new(0);
static DRAWN: AtomicU64 = AtomicU64::new(0);
static DATE_MS: AtomicU64 = AtomicU64::new(0);
static VIRTUAL_US: AtomicU64 = AtomicU64::new(0);

/// From here on this process has no entropy but `salt` and no date but `date_ms` plus virtual time.
pub(crate) fn begin(salt: u64, date_ms: u64) {
    SALT.store(salt, Ordering::Relaxed);
    DATE_MS.store(date_ms, Ordering::Relaxed);
    ON.store(true, Ordering::SeqCst);
}

/// Lets the machine's clocks go again; for measuring how long it all took.
pub(crate) fn end() {
    ON.store(false, Ordering::SeqCst);
}

/// Says how far virtual time is.
pub(crate) fn advance(us: u64) {
    VIRTUAL_US.store(us, Ordering::Relaxed);
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod libc_names {
    use std::ffi::{c_char, c_int, c_long, c_uint, c_void};
    use std::sync::atomic::{AtomicPtr, Ordering};

    use super::{DATE_MS, DRAWN, ON, SALT, VIRTUAL_US};

    #[repr(C)]
    struct Timespec {
        seconds: i64,
        nanos: i64,
    }

    const RTLD_NEXT: *mut c_void = usize::MAX as *mut c_void;
    const CLOCK_REALTIME: c_int = 0;
    const CLOCK_REALTIME_COARSE: c_int = 5;
    #[cfg(target_arch = "x86_64")]
    const SYS_GETRANDOM: c_long = 318;
    #[cfg(not(target_arch = "x86_64"))]
    const SYS_GETRANDOM: c_long = 278;

    unsafe extern "C" {
        fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    }

    type ClockGettime = unsafe extern "C" fn(c_int, *mut Timespec) -> c_int;
    type Getrandom = unsafe extern "C" fn(*mut c_void, usize, c_uint) -> isize;
    type Getentropy = unsafe extern "C" fn(*mut c_void, usize) -> c_int;
    type Syscall = unsafe extern "C" fn(c_long, c_long, c_long, c_long, c_long, c_long, c_long) -> c_long;

    /// The next definition of a symbol after ours, looked up once.
    fn next(slot: &AtomicPtr<c_void>, name: &'static std::ffi::CStr) -> *mut c_void {
        let known = slot.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        // SAFETY: the name is NUL-terminated and static; RTLD_NEXT is a documented handle.
        let found = unsafe { dlsym(RTLD_NEXT, name.as_ptr()) };
        slot.store(found, Ordering::Relaxed);
        found
    }

    /// SplitMix64 over (salt, how many words were drawn): no secret, only different for another salt.
    fn word() -> u64 {
        let n = DRAWN.fetch_add(1, Ordering::Relaxed);
        let salted = SALT.load(Ordering::Relaxed).wrapping_mul(0xA24B_AED4_963E_E407);
        let mut z = salted.wrapping_add(n.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// # Safety
    /// `out` is null or valid for writes of `len` bytes.
    unsafe fn fill(out: *mut c_void, len: usize) {
        if out.is_null() {
            return;
        }
        let out = out.cast::<u8>();
        let mut word_now = 0;
        for at in 0..len {
            if at % 8 == 0 {
                word_now = word();
            }
            // SAFETY: `at < len`, and the caller vouches for `len` bytes.
            unsafe { out.add(at).write((word_now >> (8 * (at % 8))) as u8) };
        }
    }

    #[cfg(not(madsim))]
    #[unsafe(no_mangle)]
    unsafe extern "C" fn getrandom(out: *mut c_void, len: usize, flags: c_uint) -> isize {
        static NEXT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
        if ON.load(Ordering::Relaxed) {
            // SAFETY: the caller passes `getrandom`'s arguments.
            unsafe { fill(out, len) };
            return isize::try_from(len).unwrap_or(isize::MAX);
        }
        let found = next(&NEXT, c"getrandom");
        if found.is_null() {
            return -1;
        }
        // SAFETY: the symbol `getrandom` has this type, and the arguments are the caller's.
        unsafe { std::mem::transmute::<*mut c_void, Getrandom>(found)(out, len, flags) }
    }

    #[cfg(not(madsim))]
    #[unsafe(no_mangle)]
    unsafe extern "C" fn getentropy(out: *mut c_void, len: usize) -> c_int {
        static NEXT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
        if ON.load(Ordering::Relaxed) {
            // SAFETY: the caller passes `getentropy`'s arguments.
            unsafe { fill(out, len) };
            return 0;
        }
        let found = next(&NEXT, c"getentropy");
        if found.is_null() {
            return -1;
        }
        // SAFETY: the symbol `getentropy` has this type, and the arguments are the caller's.
        unsafe { std::mem::transmute::<*mut c_void, Getentropy>(found)(out, len) }
    }

    #[cfg(not(madsim))]
    #[unsafe(no_mangle)]
    unsafe extern "C" fn clock_gettime(clock: c_int, out: *mut Timespec) -> c_int {
        static NEXT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
        if ON.load(Ordering::Relaxed) && !out.is_null() {
            let virtual_us = VIRTUAL_US.load(Ordering::Relaxed);
            let us = match clock {
                CLOCK_REALTIME | CLOCK_REALTIME_COARSE => DATE_MS.load(Ordering::Relaxed) * 1000 + virtual_us,
                // Monotonic and CPU clocks: an hour after boot.
                _ => 3_600_000_000 + virtual_us,
            };
            let seconds = i64::try_from(us / 1_000_000).unwrap_or(i64::MAX);
            let nanos = i64::try_from(us % 1_000_000 * 1000).unwrap_or(0);
            // SAFETY: `out` is not null, and the caller vouches for one timespec.
            unsafe { out.write(Timespec { seconds, nanos }) };
            return 0;
        }
        let found = next(&NEXT, c"clock_gettime");
        if found.is_null() {
            return -1;
        }
        // SAFETY: the symbol `clock_gettime` has this type, and the arguments are the caller's.
        unsafe { std::mem::transmute::<*mut c_void, ClockGettime>(found)(clock, out) }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn syscall(
        number: c_long,
        a: c_long,
        b: c_long,
        c: c_long,
        d: c_long,
        e: c_long,
        f: c_long,
    ) -> c_long {
        static NEXT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
        if number == SYS_GETRANDOM && ON.load(Ordering::Relaxed) {
            // SAFETY: SYS_getrandom's first two arguments are the buffer and its length.
            unsafe { fill(a as *mut c_void, b as usize) };
            return b;
        }
        let found = next(&NEXT, c"syscall");
        if found.is_null() {
            return -1;
        }
        // SAFETY: the module says why six integers stand for any of its arguments; the arguments are the caller's.
        unsafe { std::mem::transmute::<*mut c_void, Syscall>(found)(number, a, b, c, d, e, f) }
    }
}
