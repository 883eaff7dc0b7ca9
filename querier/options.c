#include "querier/options.h"

#include <string.h>

void qr_options_read(const struct kl_config *c, struct qr_options *o)
{
    *o = (struct qr_options){
        .strong = strcmp(kl_config_text(c, "querier.consistency"), "strong") == 0,
        .timeout_ms = kl_config_int(c, "querier.timeout"),
        .lookback_ms = kl_config_int(c, "querier.lookback"),
        .query_memory_max_bytes = (uint64_t)kl_config_int(c, "querier.memory_max"),
        .query_samples_max = (uint64_t)kl_config_int(c, "querier.samples_max"),
        .cache_max_bytes = (uint64_t)kl_config_int(c, "querier.cache_max"),
        .results_cache_bytes = (uint64_t)kl_config_int(c, "querier.results_cache_max"),
        .results_cache_fresh_ms = kl_config_int(c, "querier.results_cache_fresh"),
        .results_cache_least = (uint64_t)kl_config_int(c, "querier.results_cache_least"),
        .concurrent_max = (unsigned)kl_config_int(c, "querier.concurrent_max"),
        .slow_ms = kl_config_int(c, "querier.slow_query"),
        .prefetch_max_bytes = (uint64_t)kl_config_int(c, "querier.prefetch_max"),
        .hedge_percent = (unsigned)kl_config_int(c, "querier.hedge"),
        .config = c,
    };
}
