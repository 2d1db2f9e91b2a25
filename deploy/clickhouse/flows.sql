-- Flow aggregates from Kafka into ClickHouse: style "pmacct", one JSON object per message.
--
--   clickhouse-client --multiquery < flows.sql
--
-- Rows are deltas: the same key comes once per purge, with the same stamp_inserted (the time bin). Always sum.
-- Keys that an aggregate does not have are 0 or empty here.

CREATE DATABASE IF NOT EXISTS pathflow;

-- What comes from the topic; nothing is stored. Broker and topic are those of [aggregate.kafka].
CREATE TABLE IF NOT EXISTS pathflow.flows_queue
(
    event_type String,
    tag UInt64, tag2 UInt64, label String,
    mac_src String, mac_dst String, vlan UInt16, cvlan_in UInt16, cos UInt8, etype String,
    as_src UInt32, as_dst UInt32, comms String, ecomms String, lcomms String, as_path String,
    local_pref UInt32, med UInt32, roa_dst String,
    peer_as_src UInt32, peer_as_dst UInt32, peer_ip_src String, peer_ip_dst String,
    comms_src String, ecomms_src String, lcomms_src String, as_path_src String,
    local_pref_src UInt32, med_src UInt32, roa_src String,
    iface_in UInt32, iface_out UInt32, iface_name_in String, iface_name_out String,
    ip_src String, net_src String, ip_dst String, net_dst String, mask_src UInt8, mask_dst UInt8,
    port_src UInt16, port_dst UInt16, tcp_flags String, ip_proto String, tos UInt8,
    sampling_rate UInt32, sampling_direction String, mpls_label_top UInt32, vxlan UInt32,
    timestamp_start String, timestamp_end String,
    stamp_inserted String, stamp_updated String,
    packets UInt64, flows UInt64, bytes UInt64, writer_id String
)
ENGINE = Kafka
SETTINGS kafka_broker_list = 'kafka:9092', kafka_topic_list = 'pmacct.acct', kafka_group_name = 'clickhouse',
    kafka_format = 'JSONEachRow', kafka_handle_error_mode = 'stream';

-- Times are as pathflow writes them: set `utc = true` in [[aggregate]], or name your time zone here.
CREATE TABLE IF NOT EXISTS pathflow.flows
(
    stamp_inserted DateTime('UTC'),
    stamp_updated DateTime('UTC'),
    writer_id LowCardinality(String),
    tag UInt64, tag2 UInt64, label LowCardinality(String),
    mac_src LowCardinality(String), mac_dst LowCardinality(String),
    vlan UInt16, cvlan_in UInt16, cos UInt8, etype LowCardinality(String),
    as_src UInt32, as_dst UInt32,
    comms Array(LowCardinality(String)), ecomms Array(LowCardinality(String)), lcomms Array(LowCardinality(String)),
    as_path Array(String),
    local_pref UInt32, med UInt32, roa_dst LowCardinality(String),
    peer_as_src UInt32, peer_as_dst UInt32, peer_ip_src IPv6, peer_ip_dst IPv6,
    comms_src Array(LowCardinality(String)), ecomms_src Array(LowCardinality(String)),
    lcomms_src Array(LowCardinality(String)), as_path_src Array(String),
    local_pref_src UInt32, med_src UInt32, roa_src LowCardinality(String),
    iface_in UInt32, iface_out UInt32, iface_name_in LowCardinality(String), iface_name_out LowCardinality(String),
    ip_src IPv6, net_src IPv6, ip_dst IPv6, net_dst IPv6, mask_src UInt8, mask_dst UInt8,
    port_src UInt16, port_dst UInt16, tcp_flags UInt8, ip_proto LowCardinality(String), tos UInt8,
    sampling_rate UInt32, sampling_direction LowCardinality(String), mpls_label_top UInt32, vxlan UInt32,
    timestamp_start DateTime64(6, 'UTC'), timestamp_end DateTime64(6, 'UTC'),
    packets UInt64, flows UInt64, bytes UInt64
)
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(stamp_inserted)
ORDER BY (stamp_inserted, as_src, as_dst, ip_src, ip_dst)
TTL stamp_inserted + INTERVAL 90 DAY;

CREATE MATERIALIZED VIEW IF NOT EXISTS pathflow.flows_view TO pathflow.flows AS
-- Without history there are no stamps: then it is the time of arrival.
WITH parseDateTimeBestEffortOrNull(q.stamp_inserted, 'UTC') AS inserted,
    parseDateTimeBestEffortOrNull(q.stamp_updated, 'UTC') AS updated
SELECT
    coalesce(inserted, now()) AS stamp_inserted,
    coalesce(updated, now()) AS stamp_updated,
    writer_id, tag, tag2, label, mac_src, mac_dst, vlan, cvlan_in, cos, etype, as_src, as_dst,
    extractAll(q.comms, '[^_]+') AS comms, extractAll(q.ecomms, '[^_]+') AS ecomms, extractAll(q.lcomms, '[^_]+') AS lcomms,
    extractAll(q.as_path, '[^_]+') AS as_path,
    local_pref, med, roa_dst, peer_as_src, peer_as_dst,
    toIPv6OrDefault(q.peer_ip_src) AS peer_ip_src, toIPv6OrDefault(q.peer_ip_dst) AS peer_ip_dst,
    extractAll(q.comms_src, '[^_]+') AS comms_src, extractAll(q.ecomms_src, '[^_]+') AS ecomms_src,
    extractAll(q.lcomms_src, '[^_]+') AS lcomms_src, extractAll(q.as_path_src, '[^_]+') AS as_path_src,
    local_pref_src, med_src, roa_src, iface_in, iface_out, iface_name_in, iface_name_out,
    toIPv6OrDefault(q.ip_src) AS ip_src, toIPv6OrDefault(q.net_src) AS net_src,
    toIPv6OrDefault(q.ip_dst) AS ip_dst, toIPv6OrDefault(q.net_dst) AS net_dst,
    mask_src, mask_dst, port_src, port_dst, toUInt8OrZero(q.tcp_flags) AS tcp_flags, ip_proto, tos,
    sampling_rate, sampling_direction, mpls_label_top, vxlan,
    parseDateTime64BestEffortOrZero(q.timestamp_start, 6, 'UTC') AS timestamp_start,
    parseDateTime64BestEffortOrZero(q.timestamp_end, 6, 'UTC') AS timestamp_end,
    packets, flows, bytes
FROM pathflow.flows_queue AS q
WHERE event_type = 'purge';

-- Traffic between ASes by minute: small, for dashboards.
CREATE TABLE IF NOT EXISTS pathflow.as_traffic
(
    minute DateTime('UTC'), label LowCardinality(String), as_src UInt32, as_dst UInt32, packets UInt64, bytes UInt64
)
ENGINE = SummingMergeTree
ORDER BY (minute, label, as_src, as_dst);

CREATE MATERIALIZED VIEW IF NOT EXISTS pathflow.as_traffic_view TO pathflow.as_traffic AS
SELECT toStartOfMinute(stamp_inserted) AS minute, label, as_src, as_dst, sum(packets) AS packets, sum(bytes) AS bytes
FROM pathflow.flows
GROUP BY minute, label, as_src, as_dst;
