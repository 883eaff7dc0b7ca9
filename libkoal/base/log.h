#ifndef KL_LOG_H
#define KL_LOG_H
/*
 * The log of a process: one line an event on the sink that main() set (stderr), as logfmt text or
 * JSON. Log once, where an error stops travelling. Any thread. A kl_log is handed in, like an env;
 * where none is wanted (tests), NULL is a log that says nothing.
 * The sink adds time, level and service; kl_logf formats the sentence. What a machine may want to
 * find again (a request's id, a tenant, a duration) goes beside the sentence, as fields.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libkoal/base/mem.h"

enum kl_level { KL_DEBUG, KL_INFO, KL_WARN, KL_ERROR };
/* Names are [a-z_]+. A text of size 0 is left out, so that a field may be absent. */
struct kl_log_field { const char *name; struct kl_span text; int64_t number; bool is_number; };
static inline struct kl_log_field kl_log_text(const char *name, struct kl_span text)
{
    return (struct kl_log_field){ .name = name, .text = text };
}
static inline struct kl_log_field kl_log_number(const char *name, int64_t number)
{
    return (struct kl_log_field){ .name = name, .number = number, .is_number = true };
}
struct kl_log {
    /* `line` is complete, without time and level: the sink adds them. Never blocks for long. */
    void (*write)(struct kl_log *log, enum kl_level level, const char *line,
                  const struct kl_log_field *fields, size_t field_count);
    enum kl_level least;
};
void kl_logf(struct kl_log *log, enum kl_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same, with fields; they are read during the call only. */
void kl_log_event(struct kl_log *log, enum kl_level level, const struct kl_log_field *fields,
                  size_t field_count, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
#endif
