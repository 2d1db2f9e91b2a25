-- BGP table dumps from Kafka into ClickHouse: one JSON object per route, dump_init and dump_close around each table.
--
--   clickhouse-client --multiquery < bgp.sql

CREATE DATABASE IF NOT EXISTS pathflow;

-- What comes from the topic; nothing is stored.
CREATE TABLE IF NOT EXISTS pathflow.bgp_queue
(
    event_type String, seq UInt64, timestamp String, peer_ip_src String,
    afi UInt16, safi UInt8, ip_prefix String, as_path_id UInt32, bgp_nexthop String, as_path String,
    comms String, ecomms String, lcomms String, origin String, local_pref UInt32, med UInt32, aigp UInt64,
    otc UInt32, roa String, rd String, mpls_label String
)
ENGINE = Kafka
SETTINGS kafka_broker_list = 'kafka:9092', kafka_topic_list = 'pmacct.bgp', kafka_group_name = 'clickhouse',
    kafka_format = 'JSONEachRow', kafka_handle_error_mode = 'stream';

-- All routes of all dumps. The latest table of a peer is that with its greatest timestamp.
CREATE TABLE IF NOT EXISTS pathflow.bgp_routes
(
    timestamp DateTime('UTC'), peer LowCardinality(String), afi UInt16, safi UInt8,
    prefix String, path_id UInt32, rd LowCardinality(String),
    next_hop LowCardinality(String), as_path Array(String), origin_as UInt32,
    comms Array(LowCardinality(String)), ecomms Array(LowCardinality(String)), lcomms Array(LowCardinality(String)),
    origin LowCardinality(String), local_pref UInt32, med UInt32, roa LowCardinality(String)
)
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(timestamp)
ORDER BY (peer, afi, safi, prefix, rd, path_id, timestamp)
TTL timestamp + INTERVAL 30 DAY;

CREATE MATERIALIZED VIEW IF NOT EXISTS pathflow.bgp_routes_view TO pathflow.bgp_routes AS
SELECT
    parseDateTimeBestEffort(q.timestamp, 'UTC') AS timestamp, peer_ip_src AS peer, afi, safi,
    ip_prefix AS prefix, as_path_id AS path_id, rd, bgp_nexthop AS next_hop,
    extractAll(q.as_path, '[^ ]+') AS as_path,
    -- The last AS of the path, or the last of a set.
    toUInt32OrZero(extract(q.as_path, '([0-9]+)[^0-9]*$')) AS origin_as,
    extractAll(q.comms, '[^ ]+') AS comms, extractAll(q.ecomms, '[^ ]+') AS ecomms,
    extractAll(q.lcomms, '[^ ]+') AS lcomms, origin, local_pref, med, roa
FROM pathflow.bgp_queue AS q
WHERE event_type = 'dump';
