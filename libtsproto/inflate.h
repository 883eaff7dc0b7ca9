#ifndef TSP_INFLATE_H
#define TSP_INFLATE_H
/*
 * Request bodies unpacked: gzip, zlib ("deflate"), zstd, snappy block format. A declared size past
 * the cap is refused (KL_ELIMIT) before anything is allocated; an undeclared one when it is passed.
 * *out is malloc'ed, the caller's. KL_EINVAL on bytes that are not of the coding.
 */
#include "libkoal/base/err.h"
#include "libkoal/base/mem.h"

enum tsp_coding { TSP_IDENTITY, TSP_GZIP, TSP_DEFLATE, TSP_ZSTD, TSP_SNAPPY };
/* The coding of a Content-Encoding header; NULL and "" are identity; KL_EINVAL: none we know. */
enum kl_code tsp_coding_of(const char *header, enum tsp_coding *coding, struct kl_err *err);
enum kl_code tsp_inflate(enum tsp_coding coding, struct kl_span in, size_t cap_bytes, char **out,
                         size_t *out_size, struct kl_err *err);
#endif
