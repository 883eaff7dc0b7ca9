#ifndef TSP_OTLP_ANSWER_H
#define TSP_OTLP_ANSWER_H
/*
 * What an OTLP sender is answered, in its own encoding: an ExportMetricsServiceResponse when its message
 * was taken, wholly or in part, and else a google.rpc.Status, which may say when to come again. Status
 * codes are gRPC's (grpc/grpc, doc/statuscodes.md).
 */
#include <stdbool.h>

#include "libkoal/base/buf.h"

enum { TSP_GRPC_OK = 0, TSP_GRPC_UNKNOWN = 2, TSP_GRPC_INVALID = 3, TSP_GRPC_EXHAUSTED = 8,
       TSP_GRPC_UNIMPLEMENTED = 12, TSP_GRPC_INTERNAL = 13, TSP_GRPC_UNAVAILABLE = 14 };

/* With nothing rejected and no words, the answer says that all is well. */
void tsp_otlp_response(struct kl_buf *out, bool json, uint64_t rejected_points, struct kl_span words);
/* retry_after_s 0: no RetryInfo. */
void tsp_otlp_status(struct kl_buf *out, bool json, int code, struct kl_span words, unsigned retry_after_s);
#endif
