#include "libkoal/app/app.h"

#include "libkoal/base/relabel.h"
#include "libkoal/base/retention.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Bounds that say "as large as makes sense". */
#define TIB ((int64_t)1 << 40)
#define YEARS ((int64_t)200 * 365 * 86400 * 1000)

#define LIVE .live = true
/* What follows the help: LIVE where the option may change by a reload, without a restart. */
#define TEXT(path, fallback, help, ...)         { path, KL_OPT_TEXT, fallback, 0, 0, NULL, help, __VA_ARGS__ }
#define CHOICE(path, fallback, list, help, ...) { path, KL_OPT_CHOICE, fallback, 0, 0, list, help, __VA_ARGS__ }
#define BOOL(path, fallback, help, ...)         { path, KL_OPT_BOOL, fallback, 0, 0, NULL, help, __VA_ARGS__ }
#define INT(path, fallback, least, most, help, ...)   { path, KL_OPT_INT, fallback, least, most, NULL, help, __VA_ARGS__ }
#define BYTES(path, fallback, least, most, help, ...) { path, KL_OPT_BYTES, fallback, least, most, NULL, help, __VA_ARGS__ }
#define MS(path, fallback, least, most, help, ...)    { path, KL_OPT_MS, fallback, least, most, NULL, help, __VA_ARGS__ }
/* The same, but that the file may say otherwise for some tenants. */
#define T_INT(path, fallback, least, most, help)   { path, KL_OPT_INT, fallback, least, most, NULL, help, true, .live = true }
#define T_BYTES(path, fallback, least, most, help) { path, KL_OPT_BYTES, fallback, least, most, NULL, help, true, .live = true }
#define T_MS(path, fallback, least, most, help)    { path, KL_OPT_MS, fallback, least, most, NULL, help, true, .live = true }

/* What type and range cannot say. */
static enum kl_code power_of_two(const char *text, struct kl_err *err)
{
    long n = strtol(text, NULL, 10);

    return (n & (n - 1)) == 0 ? KL_OK : kl_fail(err, KL_EINVAL, "%ld is no power of two", n);
}

static enum kl_code odd(const char *text, struct kl_err *err)
{
    long n = strtol(text, NULL, 10);

    return n % 2 == 1 ? KL_OK : kl_fail(err, KL_EINVAL, "%ld is none of 1, 3 and 5", n);
}

/* As NATS' adapter says: in NATS' names a dot or a * would be another's. */
static enum kl_code cell_name(const char *text, struct kl_err *err)
{
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789");

    return n > 0 && n <= 32 && text[n] == '\0' ? KL_OK : kl_fail(err, KL_EINVAL, "a cell's name is 1 to 32 of a-z and 0-9");
}

/* Chapters of deploy/CONFIG.md, in the order in which the rows come. Every section has one. */
const struct kl_config_section kl_app_sections[] = {
    { "", "What stands in no section." },
    { "log", "What a process says of itself on stderr; the log of samples, in NATS or in a folder." },
    { "nats", "NATS, which a cluster's log, questions and coordination go through. `koalemos serve` has none." },
    { "bus", "What is the same over NATS and in one process." },
    { "auth", "Who may ask: API keys." },
    { "audit", "The log of what operators order and of what is refused." },
    { "encryption", "What a process keeps in folders: the local log, snapshots, filesets, caches, and the object storage where that is a "
                    "folder. Off where no key is named." },
    { "tls", "TLS of every listener: HTTP and OTLP over gRPC. Off where no certificate is named." },
    { "http", "The HTTP server of every service." },
    { "trace", "Spans of requests, for a collector of traces. Off by default." },
    { "cluster", "Who has which partitions: ingestors register, the coordinator of the doormen decides." },
    { "placement", "Where series land." },
    { "store", "The object storage: what holds the blocks in the end." },
    { "doorman", "The doorman takes pushes." },
    { "limits", "What a tenant may send. The doorman refuses what is past a limit, before it is acknowledged; "
                "nothing is refused afterwards." },
    { "ha", "Pairs of senders that scrape the same." },
    { "rollup", "Rows of five minutes, or an hour, in place of samples: made of old blocks, kept for their own time." },
    { "compaction", "Merging small blocks into large ones." },
    { "features", "What is rolled out tenant by tenant: each says for how many of 100 it is on. Which ones follows from their names: the same "
                  "in all services, and more with a larger number, never others. For one tenant alone, as an override or below "
                  "`tenants:`, 0 is off and 100 is on." },
    { "otlp", "OpenTelemetry." },
    { "disk", "A disk that must not become full." },
    { "ingestor", "The ingestor keeps recent series in memory and writes blocks." },
    { "querier", "The querier answers." },
    { 0 },
};

/* Rows of one section stand together: --print-config opens a section where the last row left it. */
const struct kl_option kl_app_options[] = {
    TEXT("listen", NULL, "address and port of HTTP; port 0 takes a free one"),
    TEXT("data-dir", NULL, "folder of everything that this process keeps"),
    CHOICE("sandbox", "auto", "auto|on|off", "a server sees its own files alone and may execute nothing (Landlock, seccomp); auto: as far as the kernel has it"),
    BOOL("core_dumps", "false", "whether a crash may leave a core: it holds secrets and data"),
    TEXT("cell", "main", "name of the cell, in every NATS subject, stream and bucket: [a-z0-9]+", .check = cell_name),
    INT("partitions", "16", 1, 4096, "partitions of the log, a power of two, the same for all services; more than the placement table has is room for a split",
        .check = power_of_two),

    CHOICE("log.level", "info", "debug|info|warn|error", "what this process says of itself on stderr", LIVE),
    CHOICE("log.format", "text", "text|json", "how it says it", LIVE),
    CHOICE("log.requests", "errors", "none|errors|all", "HTTP requests that get a line there: none, those answered 5xx, or all"),
    INT("log.replicas", "3", 1, 5, "replicas of each log stream in NATS: 1, 3 or 5", .check = odd),
    BYTES("log.bytes_max", "10GiB", 1 << 20, 1024 * TIB, "a log stream in NATS refuses past this"),
    BYTES("log.local_bytes_max", "0", 0, 1024 * TIB, "the local log refuses past this; 0: only where the disk is full"),
    BYTES("log.segment_bytes", "64MiB", 1 << 16, TIB, "a segment of the local log is closed past this"),
    MS("log.fsync", "0", 0, 3600000, "local log: 0 acknowledges what is synced; else syncs this often, and a power cut may take that much"),

    TEXT("nats.url", "nats://127.0.0.1:4222", "NATS servers, comma-separated"),
    TEXT("nats.credentials.file", NULL, "NATS credentials: a JWT and its seed"),
    TEXT("nats.nkey.file", NULL, "or the seed of an NKey"),
    TEXT("nats.nkey.public", NULL, "the public key that belongs to it, U..."),
    TEXT("nats.user", NULL, "or a user's name"),
    TEXT("nats.password.file", NULL, "file with that user's password"),
    TEXT("nats.ca.file", NULL, "CA that signs the NATS servers' certificates"),
    TEXT("nats.cert.file", NULL, "our certificate for NATS"),
    TEXT("nats.key.file", NULL, "its key"),
    MS("bus.timeout", "5s", 100, 600000, "how long one operation of the bus waits for NATS"),

    TEXT("auth.keys.file", NULL, "file of API keys, of `koalemos key new`: with it nothing is answered without one; read again when it changes"),
    BOOL("auth.anonymous", "false", "without auth.keys.file: listen where other machines reach it all the same"),
    INT("auth.rate", "0", 0, 1000000, "requests a second of a key whose line says no rate; past it 429; 0: any"),
    TEXT("audit.dir", NULL, "folder of the log of what operators order and of what is refused; unset: serve keeps it in its data-dir, others keep none"),
    TEXT("audit.key.file", NULL, "file with a secret, without which nobody can make the audit log anew"),

    TEXT("encryption.keys.file", NULL, "file with keys, of 64 hex digits, a line each: what this process keeps in folders is encrypted by the first, and may be by any"),
    TEXT("encryption.keys.command", NULL, "or a command that prints them, run once at the start; what it is told is no secret"),

    TEXT("tls.cert.file", NULL, "our certificate, PEM, and what signed it: HTTP and gRPC speak TLS, 1.2 or 1.3; files are read again when they change"),
    TEXT("tls.key.file", NULL, "its key"),
    TEXT("tls.client_ca.file", NULL, "CA whose certificates clients have to show, but for health checks; unset: they are not asked"),

    BOOL("http.lifecycle", "false", "whether POST /-/quit (from this machine) and /-/reload are answered", LIVE),
    INT("http.threads", "0", 0, 256, "threads of the HTTP server; 0: one a core"),
    INT("http.connections_max", "10000", 1, 1000000, "connections at once"),
    BYTES("http.buffered_bytes_max", "128MiB", 1 << 20, TIB, "request bodies, and long heads, in memory; past it 503"),
    MS("http.idle_timeout", "60s", 1000, 3600000, "a connection on which nothing happens is closed"),
    MS("http.drain", "10s", 0, 600000, "how long a stop waits for answers under way", LIVE),

    TEXT("trace.otlp_url", NULL, "where spans go, by OTLP over HTTP: http://collector:4318/v1/traces; unset: nothing is traced"),
    INT("trace.sample_one_in", "0", 0, (int64_t)1 << 40, "one in so many requests is traced, of those that bring no traceparent; 0: none of them"),
    INT("trace.queue", "4096", 16, 1000000, "spans that wait to leave, about 1 KiB each; more are dropped and counted"),
    TEXT("trace.ca.file", NULL, "CA that signs the collector's certificate; unset: those of the system"),
    TEXT("trace.token.file", NULL, "file with a bearer token for the collector; read again for each batch"),

    INT("cluster.replicas", "2", 1, 4, "ingestors that hold each partition, in different zones where there are enough"),
    INT("cluster.joins_at_once", "4", 0, 4096, "partitions that may be loading at once while they move; 0: any number"),
    MS("cluster.heartbeat", "2s", 100, 60000, "how often an ingestor says that it lives"),
    MS("cluster.silent", "10s", 500, 600000, "an ingestor whose heartbeat stands still so long owns nothing; at least three heartbeats"),
    MS("cluster.gone", "10m", 1000, YEARS, "after this its partitions are given to others"),
    MS("cluster.forget", "1d", 1000, YEARS, "after this its keys are deleted, as if it had never been; not before cluster.gone"),

    TEXT("placement.static", "", "which ingestor has which partitions: ingestor-0=0-7,ingestor-1=8-15; empty: the coordinator gives them to those that register"),
    INT("placement.spread_series", "500000", 0, (int64_t)1 << 40, "a metric with more series in one partition is spread over more; 0: none is"),
    MS("placement.spread_window", "10m", 100, YEARS, "series count that had a sample within this time"),
    MS("placement.spread_delay", "1m", 0, 86400000, "a larger spread, or a split, begins this long after it was decided"),
    TEXT("store.url", NULL, "the object storage, the same for every ingestor and querier: dir:/path or s3://bucket/prefix; serve without one: a folder in its data-dir"),
    TEXT("store.dir", NULL, "short for a store.url of dir:"),
    TEXT("store.cache.dir", NULL, "folder in which a querier keeps what it read of the object storage; unset: none, but serve over S3 keeps it in its data-dir"),
    BYTES("store.cache.bytes_max", "10GiB", 0, 1024 * TIB, "the oldest of it goes past this; 0: none is kept"),
    INT("store.hedge", "10", 0, 100, "of 100 reads of an S3 service, how many may be asked for a second time when they are slow"),
    TEXT("store.encryption_key.file", NULL, "file with a key, 64 hex digits: objects are encrypted by it; for a store that is empty, and then for ever"),
    TEXT("store.encryption_key.command", NULL, "or a command that prints it, run once at the start; what it is told is no secret"),
    TEXT("store.s3.endpoint", NULL, "address of the S3 service, https://host or http://host:port; unset: that of AWS in the region"),
    TEXT("store.s3.region", "us-east-1", "region of the bucket"),
    CHOICE("store.s3.style", "auto", "auto|path|host", "whether the bucket is part of the path or of the host's name; auto: the path, where an endpoint is set"),
    TEXT("store.s3.access_key.file", NULL, "file with the access key; unset, as the next: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN of the environment"),
    TEXT("store.s3.secret_key.file", NULL, "file with the secret key; read again when the service refuses what it held"),
    TEXT("store.s3.session_token.file", NULL, "file with the session token, where keys are temporary"),
    TEXT("store.s3.ca.file", NULL, "CA that signs the service's certificate; unset: those of the system"),
    TEXT("store.s3.proxy", NULL, "HTTP proxy on the way to the service, http://host:port"),
    CHOICE("store.s3.signature", "v4", "v4|v2", "how requests are signed; v2 is for old services, and knows neither regions, tokens nor parts"),
    CHOICE("store.s3.conditional_put", "auto", "auto|on|off", "whether the service itself keeps objects from being replaced (If-None-Match); auto finds out"),
    BYTES("store.s3.part_bytes", "16MiB", 5 << 20, (int64_t)4 << 30, "larger objects go up in parts of this size"),
    INT("store.s3.tries", "5", 1, 100, "a request is sent at most this often, when it fails by a 5xx, 429, a reset or a timeout"),
    MS("store.s3.connect_timeout", "5s", 100, 600000, "to connect to the service"),
    MS("store.s3.stall_timeout", "15s", 1000, 600000, "a request that moves less than 1 KiB a second for so long has failed"),
    MS("store.s3.timeout", "5m", 1000, 86400000, "one request in all"),

    TEXT("doorman.name", "doorman", "this doorman's name, for people"),
    INT("doorman.gates", "0", 0, 64, "gates, each a thread with a remembered table of its own; 0: one"),
    MS("doorman.linger", "20ms", 0, 10000, "how long a record waits for company"),
    BYTES("doorman.inflight_bytes_max", "256MiB", 1 << 20, TIB, "bodies and records under way; past it 503"),
    BYTES("doorman.partition_inflight_bytes_max", "32MiB", 1 << 20, TIB, "records under way to one partition; past it 503"),
    MS("doorman.heartbeat", "5s", 100, 60000, "how often doormen tell each other that they live, for the limits they share"),
    MS("doorman.append_timeout", "10s", 100, 600000, "how long an append is retried before the push gets 503"),
    TEXT("doorman.influx_separator", "_", "stands between measurement and field in a metric's name"),
    TEXT("doorman.influx_db_label", "db", "label that an Influx line's database or bucket becomes; empty: none"),

    T_INT("limits.label_count_max", "64", 1, 256, "labels of a series"),
    T_BYTES("limits.name_bytes_max", "1KiB", 1, 32768, "length of a label name"),
    T_BYTES("limits.value_bytes_max", "4KiB", 1, 32768, "length of a label value"),
    T_BYTES("limits.body_bytes_max", "32MiB", 1024, TIB, "a request body as sent; past it 413; over gRPC never more than the largest at the start"),
    T_BYTES("limits.inflated_bytes_max", "128MiB", 1024, TIB, "a request body unpacked; past it 413"),
    T_INT("limits.samples_per_push_max", "0", 0, (int64_t)1 << 40, "samples of one push; those past it are refused; 0: no bound"),
    T_INT("limits.samples_per_s", "0", 0, (int64_t)1 << 40, "samples a second, of all doormen together; past it 429; 0: no bound"),
    T_INT("limits.burst_samples", "0", 0, (int64_t)1 << 40, "samples that may come at once after a pause; 0: ten seconds' worth"),
    T_BYTES("limits.inflight_bytes_max", "128MiB", 0, TIB, "of pushes that a doorman has not answered yet; past it 429; 0: no bound"),
    T_INT("limits.series_max", "0", 0, (int64_t)1 << 40, "series active in the last 10 to 20 minutes, of all doormen together; more are refused; 0: no bound"),
    T_MS("limits.past", "30d", 0, YEARS, "older samples are refused; 0: none are"),
    T_MS("limits.future", "10m", 0, YEARS, "samples further in the future are refused; 0: none are"),

    { "ha.enabled", KL_OPT_BOOL, "false", 0, 0, NULL, "of senders with equal cluster labels and different replica labels one is taken", true, .live = true },
    { "ha.cluster_label", KL_OPT_TEXT, "cluster", 0, 0, NULL, "names what both of a pair scrape", true, .live = true },
    { "ha.replica_label", KL_OPT_TEXT, "__replica__", 0, 0, NULL, "names which of the pair; not stored", true, .live = true },
    T_MS("ha.failover", "30s", 3000, 86400000, "the other replica takes over when the leader sends nothing for so long"),
    T_INT("ha.clusters_max", "100", 1, 10000, "clusters of a tenant"),

    { "write_relabel", KL_OPT_LIST, NULL, 0, 0, NULL, "Prometheus' relabelling rules for what comes in", true, kl_relabel_check, true },

    T_MS("retention", "0", 0, YEARS, "how long data is kept: a block goes when its last sample is older; 0: for ever"),

    { "retention_rules", KL_OPT_LIST, NULL, 0, 0, NULL, "how long samples of some series are kept, in place of retention: a list of {match: 'up{env=\"test\"}', keep: 7d}; of several that fit the first decides. Their rows in rollups go with them, or are kept for keep_5m and keep_1h, where the tenant has that rollup. A rule that has no effect is refused", true, kl_retention_check, true },

    T_MS("rollup.5m", "0", 0, YEARS, "how long rows of five minutes (count, sum, min, max, first, last) are kept, made of each block of compaction.window; 0: none are made"),
    T_MS("rollup.1h", "0", 0, YEARS, "the same, rows of an hour"),

    T_MS("compaction.window", "24h", 60000, YEARS, "time span that blocks are merged into; taken as the next multiple of ingestor.window"),
    INT("compaction.files", "8", 2, 256, "so many small blocks of one window are worth a merge", LIVE),
    BYTES("compaction.bytes_max", "256MiB", 0, 1024 * TIB, "chunks that are merged at once: a window that is more stays in halves, quarters, ...; 0: nothing is merged", LIVE),
    MS("compaction.deletions", "24h", 0, YEARS, "what was deleted has left the object storage within about this time; until then it is hidden. Rewriting for its own sake begins at half of it", LIVE),
    MS("compaction.orphans", "48h", 0, YEARS, "a fileset in the object storage that nothing names is removed after this; 0: never", LIVE),

    T_INT("features.results_cache", "100", 0, 100, "of 100 tenants, for how many range queries are answered out of pieces of earlier answers (querier.results_cache_max)"),
    T_INT("features.pushdown", "100", 0, 100, "of 100 tenants, for how many aggregates are made by the ingestors where they can be (of cells: in serve there is nothing to be saved)"),
    T_INT("features.hedging", "100", 0, 100, "of 100 tenants, for how many questions may be put to a second member (querier.hedge)"),

    TEXT("otlp.grpc_listen", NULL, "address and port of OTLP over gRPC, as 127.0.0.1:4317; unset: there is none"),
    INT("otlp.grpc_connections_max", "1000", 1, 1000000, "connections of gRPC at once"),
    CHOICE("otlp.translation", "UnderscoreEscapingWithSuffixes",
           "UnderscoreEscapingWithSuffixes|UnderscoreEscapingWithoutSuffixes|NoUTF8EscapingWithSuffixes|NoTranslation",
           "how OTLP names become names of metrics and labels"),
    TEXT("otlp.promote_resource_attributes", "", "resource attributes that become labels of every series: a list"),
    BOOL("otlp.promote_all_resource_attributes", "false", "all of them become labels"),
    TEXT("otlp.ignore_resource_attributes", "", "and these do not, when all do: a list"),
    BOOL("otlp.keep_identifying_resource_attributes", "false", "service.name, .namespace and .instance.id also in target_info"),
    BOOL("otlp.promote_scope_metadata", "false", "labels otel_scope_name, otel_scope_version, ..."),
    BOOL("otlp.target_info", "true", "a series target_info for the attributes of a resource"),
    BOOL("otlp.convert_histograms_to_nhcb", "false", "explicit buckets become native histograms of custom bounds"),
    CHOICE("otlp.delta", "cumulative", "cumulative|refuse", "delta temporality is added up, or refused"),
    BYTES("otlp.delta_bytes_max", "64MiB", 1 << 16, TIB, "sums of deltas that a gate remembers"),

    INT("disk.high_water", "95", 0, 100, "per cent of data-dir's disk: past it pushes get 503, before it is full; 0: no mark", LIVE),
    INT("disk.low_water", "0", 0, 100, "below this they are taken again; 0: three below the mark", LIVE),

    TEXT("ingestor.name", "ingestor-0", "this ingestor's name in the placement table"),
    TEXT("ingestor.zone", "", "zone (rack, availability zone) that this ingestor fails with"),
    INT("ingestor.capacity", "100", 1, 1000000, "its share of the partitions, by this weight"),
    INT("ingestor.loops", "0", 0, 64, "threads that own partitions; 0: one"),
    MS("ingestor.window", "2h", 60000, YEARS, "time span of a block as it is cut from memory"),
    MS("ingestor.census", "10s", 100, 86400000, "how often the series of large metrics are counted"),
    MS("ingestor.cut_delay", "10m", 0, 86400000, "a window is cut this long after its end"),
    MS("ingestor.log_keep", "6h", 0, YEARS, "the log in NATS is purged of nothing younger"),
    BYTES("ingestor.memory_max", "4GiB", 16 << 20, 1024 * TIB, "of the heads together; past it they are flushed early", LIVE),
    INT("ingestor.pushdown_max", "4", 0, 1024, "aggregates made at once in place of queriers (features.pushdown); 0: none is, they get the series", LIVE),
    BYTES("ingestor.pushdown_memory_max", "256MiB", 1 << 20, TIB, "memory of one of these", LIVE),
    MS("ingestor.snapshot_interval", "2m", 0, 86400000, "how often a partition's memory is put into its snapshot; 0: never, a restart replays the log", LIVE),
    MS("ingestor.snapshot_store_interval", "30m", 0, 86400000, "in a cell, how often the owner of a partition puts its last snapshot into the object storage, for whoever is left without a disk; 0: never, and none is taken from there"),
    INT("ingestor.repairs_per_hour", "2", 0, 10, "so often an hour a partition that is not as its owner's is made anew from the log, by itself; 0: never"),
    INT("ingestor.snapshot_samples", "5000000", 0, (int64_t)1 << 40, "or after so many samples of a partition; 0: by time alone", LIVE),
    MS("ingestor.local_retention", "0", 0, YEARS, "filesets stay in this ingestor's own folder besides the object storage while they have samples as young as this; merges read them there, and the queries of serve; 0: none stays"),
    BYTES("ingestor.spill_least", "1MiB", 1, TIB, "sealed chunks of a partition leave memory with a snapshot once they are that many bytes"),

    MS("querier.timeout", "2m", 100, 86400000, "a query ends after this", LIVE),
    MS("querier.lookback", "5m", 1000, 86400000, "how far back an instant selector looks", LIVE),
    BYTES("querier.memory_max", "512MiB", 1 << 20, TIB, "memory of one query", LIVE),
    BYTES("querier.cache_max", "64MiB", 1 << 20, TIB, "memory for what was read of stored filesets; past half of it only what is read again", LIVE),
    BYTES("querier.results_cache_max", "64MiB", 0, TIB, "memory for parts of answers to range queries; 0: none is kept", LIVE),
    MS("querier.results_cache_fresh", "10m", 0, YEARS, "parts of answers that look at what is younger are not kept", LIVE),
    INT("querier.results_cache_least", "20000", 0, (int64_t)1 << 40, "nothing is kept of answers that took fewer samples and points, and no fileset: they are evaluated again as quickly as they are looked for", LIVE),
    BYTES("querier.prefetch_max", "64MiB", 0, TIB, "what may be read of the object storage, in ten minutes and while few queries run, ahead of range queries that come again (dashboards), when the catalogue names filesets that they were not answered by before; 0: nothing is", LIVE),
    INT("querier.samples_max", "50000000", 1000, (int64_t)1 << 40, "samples that one query may load", LIVE),
    INT("querier.concurrent_max", "20", 1, 10000, "queries at once; more wait their turn", LIVE),
    MS("querier.slow_query", "10s", 0, 86400000, "a request that takes as long is told in the log, with its text and what it cost; 0: none is", LIVE),
    INT("querier.hedge", "10", 0, 100, "of 100 questions to ingestors, how many may be put to a second member when the first is slow", LIVE),
    CHOICE("querier.consistency", "default", "default|strong", "strong waits for the log's end before it reads"),
    { 0 },
};
