#ifndef KL_HTTP_PRIV_H
#define KL_HTTP_PRIV_H
/* What of HTTP needs no connection: paths, parameters, accepted codings. Pure functions. */
#include "libkoal/http/http.h"

enum { KL_HTTP_PARTS_MAX = 32 };

/* Decodes %XX, and + as a space if `plus`, in place. False on a % without two hex digits. */
bool kl_http_decode(char *at, size_t *size, bool plus);

struct kl_http_param { const char *name, *value; size_t value_size; };
struct kl_http_params { size_t count, room; struct kl_http_param *at; };
/* Parses name=value&... in place; `query` has room for a NUL after its `size` bytes, and stays as
 * long as the parameters. KL_EINVAL on a bad escape, KL_ELIMIT past KL_HTTP_PARAMS_MAX. */
enum kl_code kl_http_params_add(struct kl_http_params *p, char *query, size_t size,
                                struct kl_err *err);
const struct kl_http_param *kl_http_params_find(const struct kl_http_params *p, const char *name,
                                                size_t i);

/* A decoded path: the whole, and its parts, each NUL-ended. */
struct kl_http_path { size_t count; char *whole, *parts[KL_HTTP_PARTS_MAX]; };
/* Of a raw path that begins with '/'. KL_EINVAL on a bad escape or a NUL, KL_ENOENT with too many
 * parts for any route. Deinit after either. */
enum kl_code kl_http_path_init(struct kl_http_path *p, const char *raw, size_t size,
                               struct kl_err *err);
void         kl_http_path_deinit(struct kl_http_path *p);
/* Whether the path is the route's; *wild: what its `*` stands for, "" without one. */
bool kl_http_path_match(const struct kl_http_path *p, const char *route, const char **wild);

/* Whether a comma-separated list of tokens holds this one, any case. */
bool kl_http_list_has(const char *list, const char *token);
/* Whether Accept-Encoding (may be NULL) takes gzip. RFC 9110, 12.5.3. */
bool kl_http_takes_gzip(const char *accept_encoding);
/* gzip'ed and malloc'ed; false when it would not be smaller. */
bool kl_http_gzip(const char *bytes, size_t size, char **out, size_t *out_size);

/* "host:port", "[v6]:port", ":port" in parts. KL_EINVAL with a sentence. */
enum { KL_HTTP_HOST_MAX = 255 };
struct kl_http_listen { char host[KL_HTTP_HOST_MAX + 1], port[6]; };
enum kl_code kl_http_listen_parse(const char *text, struct kl_http_listen *l, struct kl_err *err);
#endif
