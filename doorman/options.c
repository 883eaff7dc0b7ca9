#include "doorman/options.h"

#include <string.h>

static enum tsp_otlp_naming naming_of(const char *name)
{
    unsigned i = 0;

    while (i + 1 < TSP_OTLP_NAMINGS && strcmp(name, tsp_otlp_naming_names[i]) != 0)
        i++;
    return (enum tsp_otlp_naming)i;
}

void dm_options_read(const struct kl_config *c, struct dm_options *o)
{
    *o = (struct dm_options){
        .config = c,
        .partitions = (uint32_t)kl_config_int(c, "partitions"),
        .gates = (unsigned)kl_config_int(c, "doorman.gates"),
        .linger_ms = kl_config_int(c, "doorman.linger"),
        .partition_inflight_bytes_max =
            (uint64_t)kl_config_int(c, "doorman.partition_inflight_bytes_max"),
        .inflight_bytes_max = (uint64_t)kl_config_int(c, "doorman.inflight_bytes_max"),
        .heartbeat_ms = kl_config_int(c, "doorman.heartbeat"),
        .append_timeout_ms = kl_config_int(c, "doorman.append_timeout"),
        .influx_separator = kl_config_text(c, "doorman.influx_separator"),
        .influx_db_label = kl_config_text(c, "doorman.influx_db_label"),
        .otlp = {
            .naming = naming_of(kl_config_text(c, "otlp.translation")),
            .promote_all = kl_config_bool(c, "otlp.promote_all_resource_attributes"),
            .promoted = kl_config_text(c, "otlp.promote_resource_attributes"),
            .ignored = kl_config_text(c, "otlp.ignore_resource_attributes"),
            .keep_identifying = kl_config_bool(c, "otlp.keep_identifying_resource_attributes"),
            .scope_labels = kl_config_bool(c, "otlp.promote_scope_metadata"),
            .target_info = kl_config_bool(c, "otlp.target_info"),
            .custom_hists = kl_config_bool(c, "otlp.convert_histograms_to_nhcb"),
            .refuse_delta = strcmp(kl_config_text(c, "otlp.delta"), "refuse") == 0,
        },
        .delta_bytes_max = (uint64_t)kl_config_int(c, "otlp.delta_bytes_max"),
    };
    dm_limits_read(c, &o->limits);
}

void dm_spreader_options_read(const struct kl_config *c, struct dm_spreader_options *o)
{
    *o = (struct dm_spreader_options){
        .series_max = (uint64_t)kl_config_int(c, "placement.spread_series"),
        .delay_ms = kl_config_int(c, "placement.spread_delay"),
    };
}
