#ifndef KL_APP_PRIV_H
#define KL_APP_PRIV_H
/* Between the app's files. */
#include <stdatomic.h>

#include "libkoal/app/app.h"
#include "libkoal/app/trace_priv.h"

struct kl_app_log { struct kl_log log; const char *service; bool json; };
void kl_app_log_init(struct kl_app_log *l, const char *service);
void kl_app_log_configure(struct kl_app_log *l, const struct kl_config *c);

struct app {
    struct kl_app app;
    struct kl_app_log log;
    struct kl_config *config;
    char   *listen, hostname[256], instance[512], folder[4096];
    int     argc, first;                               /* as the program was called: for a reload */
    char  **argv;
    int     wake[2];                                   /* a pipe: a byte in it ends the run */
    struct kl_app_post *post;                          /* the tracer's way out */
    _Atomic bool running;                              /* until it is, and once it no longer is: not ready */
    int64_t started_ms;
};
void kl_app_routes(struct app *a);                     /* health, metrics, version, quit, reload */
/* Reads the configuration again as at the start: KL_EINVAL when it is none any more, KL_ELIMIT with the
 * options that have changed, since each takes a restart; KL_OK when it says what it said. */
enum kl_code kl_app_reread(struct app *a, struct kl_err *err);
/* What each process says of itself at /metrics, in the text format. */
void kl_app_process_metrics(const char *service, int64_t started_ms, struct kl_buf *out);
#endif
