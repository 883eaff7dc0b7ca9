#ifndef KL_JSON_H
#define KL_JSON_H
/* Writing JSON into a kl_buf without building a tree; the caller balances brackets.
 * Strings are escaped; bytes that are not UTF-8 become U+FFFD. Commas are the writer's task. */
#include "libkoal/base/buf.h"

void kl_json_str(struct kl_buf *b, struct kl_span s);  /* with quotes */
void kl_json_cstr(struct kl_buf *b, const char *s);
/* A sample value as Prometheus prints it inside a string: shortest that round-trips, "NaN",
 * "+Inf", "-Inf"; format as Go's strconv.FormatFloat(v, 'f', -1, 64). Returns length; no NUL. */
enum { KL_F64_TEXT_MAX = 352 };
size_t kl_f64_text(double v, char text[KL_F64_TEXT_MAX]);
/* A millisecond timestamp as seconds: "1435781430.781", trailing zeros dropped. */
void kl_json_ms(struct kl_buf *b, int64_t ms);
#endif
