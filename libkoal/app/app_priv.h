#ifndef KL_APP_PRIV_H
#define KL_APP_PRIV_H
/* Between the app's files. */
#include <stdatomic.h>

#include "libkoal/app/app.h"

struct kl_app_log { struct kl_log log; const char *service; bool json; };
void kl_app_log_init(struct kl_app_log *l, const char *service);
void kl_app_log_configure(struct kl_app_log *l, const struct kl_config *c);

struct app {
    struct kl_app app;
    struct kl_app_log log;
    struct kl_config *config;
    char   *listen;
    int     wake[2];                                   /* a pipe: a byte in it ends the run */
    _Atomic bool running;                              /* until it is, and once it no longer is: not ready */
    int64_t started_ms;
};
void kl_app_routes(struct app *a);                     /* health, metrics, version, quit */
/* What each process says of itself at /metrics, in the text format. */
void kl_app_process_metrics(const char *service, int64_t started_ms, struct kl_buf *out);
#endif
