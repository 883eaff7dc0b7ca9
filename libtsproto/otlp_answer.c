#include "libtsproto/otlp_answer.h"

#include <inttypes.h>

#include "libkoal/base/json.h"

/* Field numbers: opentelemetry/proto/collector/metrics/v1, google/rpc/status.proto and
 * error_details.proto, google/protobuf/any.proto and duration.proto. */
static const char retry_type[] = "type.googleapis.com/google.rpc.RetryInfo";

static void add_varint(struct kl_buf *b, uint32_t number, uint64_t v)
{
    kl_buf_addv(b, (uint64_t)number << 3);
    kl_buf_addv(b, v);
}

static void add_bytes(struct kl_buf *b, uint32_t number, struct kl_span s)
{
    kl_buf_addv(b, (uint64_t)number << 3 | 2);
    kl_buf_addspan(b, s);
}

void tsp_otlp_response(struct kl_buf *out, bool json, uint64_t rejected_points, struct kl_span words)
{
    bool          partial = rejected_points > 0 || words.size > 0;
    struct kl_buf in;

    if (json) {
        kl_buf_add8(out, '{');
        if (partial) {
            kl_buf_addf(out, "\"partialSuccess\":{\"rejectedDataPoints\":\"%" PRIu64 "\",\"errorMessage\":",
                        rejected_points);
            kl_json_str(out, words);
            kl_buf_add8(out, '}');
        }
        kl_buf_add8(out, '}');
    } else if (partial) {
        kl_buf_init(&in, 0);
        if (rejected_points > 0)
            add_varint(&in, 1, rejected_points);
        add_bytes(&in, 2, words);
        add_bytes(out, 1, kl_buf_span(&in));
        kl_buf_deinit(&in);
    }
}

static void add_retry(struct kl_buf *out, unsigned retry_after_s)
{
    struct kl_buf delay, info, any;

    kl_buf_init(&delay, 0);
    kl_buf_init(&info, 0);
    kl_buf_init(&any, 0);
    add_varint(&delay, 1, retry_after_s);
    add_bytes(&info, 1, kl_buf_span(&delay));
    add_bytes(&any, 1, kl_span_str(retry_type));
    add_bytes(&any, 2, kl_buf_span(&info));
    add_bytes(out, 3, kl_buf_span(&any));
    kl_buf_deinit(&delay);
    kl_buf_deinit(&info);
    kl_buf_deinit(&any);
}

void tsp_otlp_status(struct kl_buf *out, bool json, int code, struct kl_span words, unsigned retry_after_s)
{
    if (!json) {
        add_varint(out, 1, (uint64_t)code);
        add_bytes(out, 2, words);
        if (retry_after_s > 0)
            add_retry(out, retry_after_s);
        return;
    }
    kl_buf_addf(out, "{\"code\":%d,\"message\":", code);
    kl_json_str(out, words);
    if (retry_after_s > 0)
        kl_buf_addf(out, ",\"details\":[{\"@type\":\"%s\",\"retryDelay\":\"%us\"}]", retry_type,
                    retry_after_s);
    kl_buf_add8(out, '}');
}
