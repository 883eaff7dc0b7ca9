#ifndef QR_READ_PRIV_H
#define QR_READ_PRIV_H
/*
 * Remote read's bytes (prometheus.io/docs/prometheus/latest/querying/remote_read_api and the
 * messages prompb/remote.proto, prompb/types.proto), written and read by hand; pure functions.
 *
 *   request   snappy block of ReadRequest { 1: Query*, 2: accepted response types }
 *             Query { 1: start ms, 2: end ms, 3: LabelMatcher* }
 *   samples   snappy block of ReadResponse { 1: QueryResult { 1: TimeSeries { 1: Label*,
 *             2: Sample*, 4: Histogram* } }* }
 *   streamed  frames: uvarint size, crc32c big-endian, then ChunkedReadResponse {
 *             1: ChunkedSeries { 1: Label*, 2: Chunk { 1: min ms, 2: max ms, 3: encoding,
 *             4: data } }*, 2: query index }
 *
 * A snappy block is written as literals alone (format_description.txt, 2.1): valid, not smaller.
 */
#include "libkoal/base/buf.h"
#include "libpromql/pql.h"

enum { QR_READ_QUERIES_MAX = 64, QR_READ_CHUNK_SAMPLES = 120 };
enum { QR_READ_MATCHERS_MAX = 64 };                    /* of one query */

struct qr_read_query {
    int64_t from_ms, to_ms;
    size_t  matcher_count;
    struct kl_matcher *matchers;                       /* spans borrow the message; not compiled */
};
struct qr_read_request {
    size_t query_count;
    struct qr_read_query queries[QR_READ_QUERIES_MAX];
    bool samples, streamed;                            /* what the client takes */
    bool streamed_first;
};
/* Matchers lie in `arena`. KL_EINVAL on what is no ReadRequest, KL_ELIMIT past a bound. */
enum kl_code qr_read_parse(struct kl_span message, struct kl_arena *arena,
                           struct qr_read_request *r, struct kl_err *err);
/* Appends a QueryResult as field 1 of the ReadResponse. */
void qr_read_result(struct kl_buf *out, const struct pql_series *series, size_t count);
/* Appends the frame of one series: XOR chunks of its floats, chunks of its histograms. */
void qr_read_frame(struct kl_buf *out, const struct pql_series *s, uint64_t query_index);
/* Prometheus' chunk of float histograms; the first `qr_hist_chunk_run` of those to come fit into one. */
uint32_t qr_hist_chunk_run(const struct kl_hist *const *hists, uint32_t count);
void     qr_hist_chunk(const int64_t *times_ms, const struct kl_hist *const *hists, uint32_t count,
                       struct kl_buf *out);
void qr_snappy_literals(struct kl_span in, struct kl_buf *out);
/* Prometheus' XOR chunk (the encoding of the Gorilla paper, VLDB 2015, with its own bit classes). */
void qr_xor_chunk(const int64_t *times_ms, const double *values, uint32_t count,
                  struct kl_buf *out);
#endif
