#include "doorman/otlp_in.h"

#include <stdlib.h>

#include "libkoal/base/hash.h"
#include "libtsproto/otlp_answer.h"
#include "libtsproto/otlp_json.h"

enum kl_code dm_otlp_body(struct dm_push *p, bool json, size_t cap_bytes, unsigned connection,
                          unsigned *gate, struct kl_err *err)
{
    struct kl_span tenant = kl_span_str(p->tenant);
    struct kl_buf  message;
    bool           has_delta;

    if (json) {
        kl_buf_init(&message, cap_bytes);
        if (tsp_otlp_json(kl_span(p->body, p->body_size), &message, err) != KL_OK) {
            kl_buf_deinit(&message);
            return err->code;
        }
        free(p->body);
        p->body = message.at;
        p->body_size = message.size;
    }
    if (tsp_otlp_check(kl_span(p->body, p->body_size), &has_delta, err) != KL_OK)
        return err->code;
    p->sent = kl_hash128(p->body, p->body_size);
    *gate = has_delta ? (unsigned)kl_hash64(tenant.at, tenant.size) : connection;
    return KL_OK;
}

int dm_otlp_code(unsigned http_status)
{
    switch (http_status) {
    case 200: case 204: return TSP_GRPC_OK;
    case 400: case 415: return TSP_GRPC_INVALID;
    case 413: case 429: return TSP_GRPC_EXHAUSTED;
    case 503:           return TSP_GRPC_UNAVAILABLE;
    default:            return TSP_GRPC_INTERNAL;
    }
}
