//! The contract between pathflow's kernel program and its user-space part.
#![no_std]
