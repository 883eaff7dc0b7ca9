#include "libkoal/base/log.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

enum { LINE_MAX_BYTES = 2048 };

void kl_logf(struct kl_log *log, enum kl_level level, const char *fmt, ...)
{
    char    line[LINE_MAX_BYTES];
    va_list ap;

    if (log == NULL || level < __atomic_load_n(&log->least, __ATOMIC_RELAXED))
        return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    log->write(log, level, line, NULL, 0);
}

void kl_log_event(struct kl_log *log, enum kl_level level, const struct kl_log_field *fields,
                  size_t field_count, const char *fmt, ...)
{
    char    line[LINE_MAX_BYTES];
    va_list ap;

    if (log == NULL || level < log->least)
        return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    log->write(log, level, line, fields, field_count);
}
