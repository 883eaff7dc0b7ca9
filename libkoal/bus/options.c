#include "libkoal/bus/options.h"

void kl_bus_local_options_read(const struct kl_config *c, struct kl_bus_local_options *o)
{
    *o = (struct kl_bus_local_options){
        .partitions = (uint32_t)kl_config_int(c, "partitions"),
        .fsync_ms = kl_config_int(c, "log.fsync"),
        .segment_bytes = (uint64_t)kl_config_int(c, "log.segment_bytes"),
        .log_bytes_max = (uint64_t)kl_config_int(c, "log.local_bytes_max"),
    };
}

void kl_bus_nats_options_read(const struct kl_config *c, struct kl_bus_nats_options *o)
{
    *o = (struct kl_bus_nats_options){
        .url = kl_config_text(c, "nats.url"),
        .cell = kl_config_text(c, "cell"),
        .credentials_file = kl_config_text(c, "nats.credentials.file"),
        .ca_file = kl_config_text(c, "nats.ca.file"),
        .cert_file = kl_config_text(c, "nats.cert.file"),
        .key_file = kl_config_text(c, "nats.key.file"),
        .nkey_file = kl_config_text(c, "nats.nkey.file"),
        .nkey_public = kl_config_text(c, "nats.nkey.public"),
        .user = kl_config_text(c, "nats.user"),
        .password_file = kl_config_text(c, "nats.password.file"),
        .partitions = (uint32_t)kl_config_int(c, "partitions"),
        .log_replicas = (uint32_t)kl_config_int(c, "log.replicas"),
        .stream_bytes_max = (uint64_t)kl_config_int(c, "log.bytes_max"),
        .create = true,
        .op_timeout_ms = kl_config_int(c, "bus.timeout"),
    };
}
