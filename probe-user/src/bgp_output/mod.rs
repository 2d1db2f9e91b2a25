//! What BGP peers have sent, for those who want to see it: table dumps and the log of messages, as files of JSON lines.

pub mod file_name;
pub mod json;
