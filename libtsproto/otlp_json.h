#ifndef TSP_OTLP_JSON_H
#define TSP_OTLP_JSON_H
/*
 * OTLP in JSON (opentelemetry.io/docs/specs/otlp, "JSON Protobuf Encoding") as the same message in
 * protobuf, so that one decoder and one translation serve both. One pass, no tree: each value is
 * written where the message wants it as it is read; lengths of sub-messages are filled in behind them
 * (in five bytes, which a varint may be).
 *
 * As the mapping says: names in lowerCamelCase or as in the .proto; 64-bit numbers as numbers or in
 * quotes; "NaN", "Infinity", "-Infinity"; null is absent; trace and span ids are hex, other bytes base64;
 * unknown names are passed over. Values nest at most TSP_OTLP_JSON_DEPTH_MAX deep.
 */
#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"

enum { TSP_OTLP_JSON_DEPTH_MAX = 48 };
/* Appends the message to `out`. KL_EINVAL: err says what is wrong at which byte; KL_ELIMIT: nested too
 * deeply, or the message is larger than out's cap. */
enum kl_code tsp_otlp_json(struct kl_span json, struct kl_buf *out, struct kl_err *err);
#endif
