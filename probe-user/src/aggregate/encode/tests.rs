//! Rows against pmacct's own output.
