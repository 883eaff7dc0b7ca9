#ifndef KL_STORE_S3_PRIV_H
#define KL_STORE_S3_PRIV_H
/*
 * Between the files of the S3 store, from the bottom up:
 *
 *   sign    a request's signature; hashes            (OpenSSL)
 *   http    one request and its answer               (libcurl)
 *   xml     what the service says in XML
 *   keys    access keys, from files or the environment
 *   call    a request, signed, sent and sent again; what an answer means
 *   s3      the store: put, get, head, list, remove
 *   uploads what was begun in parts and never ended
 */
#include <pthread.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/metrics.h"
#include "libkoal/store/store.h"

/* ---- sign ---- */
enum { KL_S3_HEX = 65, KL_S3_DATE = 17, KL_S3_HEADERS_MAX = 12 };
struct kl_s3_header { const char *name, *value; };     /* the name in lower case */
struct kl_s3_request {
    const char *method, *path, *query;                 /* both encoded; query sorted, "" without */
    struct kl_s3_header headers[KL_S3_HEADERS_MAX];    /* all are signed, host among them */
    unsigned    header_count;
    const char *payload;                               /* SHA-256 of the body, in hex */
};
void kl_s3_sha256(struct kl_span bytes, char hex[KL_S3_HEX]);
enum { KL_S3_MD5 = 25 };
void kl_s3_md5(struct kl_span bytes, char base64[KL_S3_MD5]);          /* for Content-MD5 */
void kl_s3_date(int64_t time_ms, char date[KL_S3_DATE]);               /* 20130524T000000Z */
/* The value of the header Authorization, appended to `out`. */
void kl_s3_sign(const struct kl_s3_request *r, const struct kl_store_s3_keys *keys,
                const char *region, const char *date, struct kl_buf *out);
/* Percent-encoded as signatures want it; `slash`: / too. */
void kl_s3_encode(const char *text, bool slash, struct kl_buf *out);

/* ---- http ---- */
enum { KL_S3_ERROR_BODY_MAX = 64 << 10, KL_S3_LIST_BODY_MAX = 16 << 20, KL_S3_ETAG_MAX = 200 };
struct kl_s3_answer {
    long     status;
    char     etag[KL_S3_ETAG_MAX], mark[64], region[40], date[40];    /* "" where it said nothing */
    uint64_t size;                                     /* Content-Length */
    bool     has_size;
    int64_t  retry_after_ms;
    size_t   got;                                      /* bytes of the body that went into `sink` */
    struct kl_buf body;                                /* the others; cut at `body_max` */
};
struct kl_s3_send {
    const struct kl_s3_request *r;
    const char *url, *authorization;
    struct kl_span body;
    void  *sink; size_t sink_size;                     /* where the body of a 2xx goes; NULL: `body` */
    size_t body_max;
};
struct kl_s3_http;
struct kl_s3_http_options {
    const char *ca_file, *proxy;
    int64_t connect_timeout_ms, stall_timeout_ms, timeout_ms;
    const _Atomic bool *canceled;
};
struct kl_s3_http *kl_s3_http_new(const struct kl_s3_http_options *o);        /* copies */
void kl_s3_http_free(struct kl_s3_http *h);
/* KL_OK: the service answered, whatever; a->body is to be freed in every case. KL_EAGAIN: no whole
 * answer; *sent: the request may have reached the service. KL_EINVAL: no address, CA or proxy.
 * KL_EIO: TLS does not trust. KL_ECANCELED. */
enum kl_code kl_s3_http_send(struct kl_s3_http *h, const struct kl_s3_send *s,
                             struct kl_s3_answer *a, bool *sent, struct kl_err *err);

/* ---- xml ---- */
/* The text of the first element `name`, entities resolved; false: none, or more than `size`. */
bool kl_s3_xml_text(struct kl_span xml, const char *name, char *text, size_t size);
/* One page of ListObjectsV2 (or V1): each key as it is in the bucket. KL_EIO: it is not one. */
struct kl_s3_page { bool more; char token[2048]; };
enum kl_code kl_s3_xml_list(struct kl_span xml,
                            void (*each)(void *ctx, const char *key, uint64_t size_bytes), void *ctx,
                            struct kl_s3_page *page, struct kl_err *err);

/* A page of ListMultipartUploads. KL_EIO: it is not one. */
enum kl_code kl_s3_xml_uploads(struct kl_span xml,
                               void (*each)(void *ctx, const char *key, const char *id, int64_t begun_ms),
                               void *ctx, struct kl_err *err);

/* ---- keys ---- */
enum kl_code kl_s3_keys_read(const struct kl_store_s3_options *o, struct kl_store_s3_keys *k,
                             struct kl_err *err);

/* ---- call ---- */
struct kl_s3 {
    struct kl_store store;
    struct kl_env  *env;
    struct kl_store_s3_options o;                      /* texts are copies, in `texts` */
    struct kl_arena texts;
    char   *base, *host, *root;                        /* "https://host:1", "host:1", "/bucket" or "" */
    struct kl_s3_http *http;
    pthread_mutex_t lock;                              /* keys; the wait for the next try */
    pthread_cond_t  stir;
    struct kl_store_s3_keys keys;
    _Atomic bool canceled;
    _Atomic int  conditional;                          /* enum kl_store_s3_conditional, as known */
    struct kl_metric *requests, *retries, *failures, *sent_bytes, *got_bytes;
};
struct kl_s3_call {
    const char *method;
    const char *key;                                   /* of the store; NULL: the bucket itself */
    const char *query;                                 /* encoded and sorted; "" without */
    struct kl_s3_header headers[4]; unsigned header_count;
    struct kl_span body;
    void  *sink; size_t sink_size;
    size_t body_max;
    struct kl_s3_answer answer;                        /* the last; kl_s3_call_end frees it */
    char   code[64];                                   /* the service's own word for its failure */
    bool   ambiguous;                                  /* an earlier try may have had its effect */
};
/* KL_OK 2xx, KL_ENOENT 404, KL_EEXIST 412, and the codes of store.h. */
enum kl_code kl_s3_call(struct kl_s3 *s, struct kl_s3_call *c, struct kl_err *err);
void         kl_s3_call_end(struct kl_s3_call *c);
#endif
