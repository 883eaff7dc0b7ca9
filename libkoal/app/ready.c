/* Whether a process is ready, and what it says of that in the log without being asked. */
#include "libkoal/app/app_priv.h"

#include <string.h>

enum { OTHER_WORDS_MS = 10 * 1000, SAME_WORDS_MS = 60 * 1000 };

bool kl_app_is_ready(struct app *a, struct kl_err *err)
{
    if (!atomic_load(&a->running))
        return kl_fail(err, KL_EAGAIN, "starting or stopping"), false;
    return a->app.ready == NULL || a->app.ready(a->app.ctx, err);
}

void kl_app_tell_ready(struct app *a)
{
    struct kl_app_told *t = &a->told;
    int64_t       now_ms = kl_env_mono_ns(a->app.env) / 1000000;
    struct kl_err err = { 0 };
    bool          ready = kl_app_is_ready(a, &err);

    if (ready) {
        if (t->state != KL_APP_READY)
            kl_logf(a->app.log, KL_INFO, "ready");
        t->state = KL_APP_READY;
        return;
    }
    if (t->state == KL_APP_WAITS &&
        now_ms - t->at_ms < (strcmp(t->words, err.text) == 0 ? SAME_WORDS_MS : OTHER_WORDS_MS))
        return;
    kl_logf(a->app.log, KL_WARN, "not ready: %s", err.text);
    memcpy(t->words, err.text, sizeof t->words);
    t->at_ms = now_ms;
    t->state = KL_APP_WAITS;
}
