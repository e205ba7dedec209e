//! Tests of log lines and the trace.
