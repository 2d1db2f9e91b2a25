//! Against Apache Kafka itself, read back with kcat and with Kafka's own consumer. `cargo xtask test` fetches Kafka and
//! names its folder in `PATHFLOW_KAFKA`; `PATHFLOW_KAFKA_OUTAGE` is the length of outages, in seconds.

mod broker;
mod delivery;
mod disk;
mod kill;
mod leader;
mod outage;
mod support;
