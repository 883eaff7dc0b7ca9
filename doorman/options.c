#include "doorman/options.h"

void dm_options_read(const struct kl_config *c, struct dm_options *o)
{
    *o = (struct dm_options){
        .config = c,
        .gates = (unsigned)kl_config_int(c, "doorman.gates"),
        .linger_ms = kl_config_int(c, "doorman.linger"),
        .partition_inflight_bytes_max =
            (uint64_t)kl_config_int(c, "doorman.partition_inflight_bytes_max"),
        .inflight_bytes_max = (uint64_t)kl_config_int(c, "doorman.inflight_bytes_max"),
        .append_timeout_ms = kl_config_int(c, "doorman.append_timeout"),
        .influx_separator = kl_config_text(c, "doorman.influx_separator"),
        .influx_db_label = kl_config_text(c, "doorman.influx_db_label"),
    };
    dm_limits_read(c, &o->limits);
}
