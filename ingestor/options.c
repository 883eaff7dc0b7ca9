#include "ingestor/options.h"

void ing_options_read(const struct kl_config *c, struct ing_options *o)
{
    *o = (struct ing_options){
        .config = c,
        .name = kl_config_text(c, "ingestor.name"),
        .loops = (unsigned)kl_config_int(c, "ingestor.loops"),
        .partitions = (uint32_t)kl_config_int(c, "partitions"),
        .window_ms = kl_config_int(c, "ingestor.window"),
        .cut_delay_ms = kl_config_int(c, "ingestor.cut_delay"),
        .log_keep_ms = kl_config_int(c, "ingestor.log_keep"),
        .snapshot_ms = kl_config_int(c, "ingestor.snapshot_interval"),
        .stored_ms = kl_config_int(c, "ingestor.snapshot_store_interval"),
        .snapshot_samples = (uint64_t)kl_config_int(c, "ingestor.snapshot_samples"),
        .spill_least_bytes = (uint64_t)kl_config_int(c, "ingestor.spill_least"),
        .repairs_per_hour = (uint32_t)kl_config_int(c, "ingestor.repairs_per_hour"),
        .memory_max_bytes = (uint64_t)kl_config_int(c, "ingestor.memory_max"),
        .pushdown_max = (unsigned)kl_config_int(c, "ingestor.pushdown_max"),
        .pushdown_memory_max_bytes = (uint64_t)kl_config_int(c, "ingestor.pushdown_memory_max"),
        .spread_series = (uint64_t)kl_config_int(c, "placement.spread_series"),
        .spread_window_ms = kl_config_int(c, "placement.spread_window"),
        .census_ms = kl_config_int(c, "ingestor.census"),
        .disk_high_percent = (int)kl_config_int(c, "disk.high_water"),
        .disk_low_percent = (int)kl_config_int(c, "disk.low_water"),
        .retention_ms = kl_config_int(c, "retention"),
        .compact_window_ms = kl_config_int(c, "compaction.window"),
        .local_retention_ms = kl_config_int(c, "ingestor.local_retention"),
        .orphans_ms = kl_config_int(c, "compaction.orphans"),
        .rollup_ms = { kl_config_int(c, "rollup.5m"), kl_config_int(c, "rollup.1h") },
        .deletion_ms = kl_config_int(c, "compaction.deletions") / 2,
        .compact_files = (uint32_t)kl_config_int(c, "compaction.files"),
        .compact_bytes_max = (uint64_t)kl_config_int(c, "compaction.bytes_max"),
    };
    if (o->disk_low_percent == 0)
        o->disk_low_percent = o->disk_high_percent > 3 ? o->disk_high_percent - 3 : 1;
}
