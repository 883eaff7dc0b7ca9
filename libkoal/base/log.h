#ifndef KL_LOG_H
#define KL_LOG_H
/*
 * The log of a process: one line an event on the sink that main() set (stderr), as logfmt text or
 * JSON. Log once, where an error stops travelling. Any thread. A kl_log is handed in, like an env;
 * where none is wanted (tests), NULL is a log that says nothing.
 * The sink adds time, level and service; kl_logf formats the sentence.
 */
enum kl_level { KL_DEBUG, KL_INFO, KL_WARN, KL_ERROR };
struct kl_log {
    /* `line` is complete, without time and level: the sink adds them. Never blocks for long. */
    void (*write)(struct kl_log *log, enum kl_level level, const char *line);
    enum kl_level least;
};
void kl_logf(struct kl_log *log, enum kl_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
#endif
