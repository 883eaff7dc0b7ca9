#include "doorman/forms.h"

#include <string.h>
#include <strings.h>

bool dm_is_type(const char *header, const char *type)
{
    size_t n = strlen(type);

    return header == NULL || header[0] == '\0' ||
           (strncasecmp(header, type, n) == 0 && strchr("; \t", header[n]) != NULL);
}

bool dm_remote_write_of(const char *type, enum dm_format *format)
{
    const char *proto = type != NULL ? strstr(type, "proto=") : NULL;
    size_t      n;

    *format = DM_RW1;
    if (!dm_is_type(type, "application/x-protobuf"))
        return false;
    if (proto == NULL)
        return true;
    proto += strlen("proto=");
    n = strcspn(proto, "; \t");
    if (n == strlen("io.prometheus.write.v2.Request") &&
        strncmp(proto, "io.prometheus.write.v2.Request", n) == 0)
        *format = DM_RW2;
    return *format == DM_RW2 ||
           (n == strlen("prometheus.WriteRequest") && strncmp(proto, "prometheus.WriteRequest", n) == 0);
}

bool dm_influx_unit(const char *precision, int64_t *unit_ns)
{
    static const struct { const char *name; int64_t ns; } units[] = {
        { "ns", 1 }, { "n", 1 }, { "us", 1000 }, { "u", 1000 }, { "\xc2\xb5", 1000 }, { "ms", 1000000 },
        { "s", INT64_C(1000000000) }, { "m", INT64_C(60000000000) }, { "h", INT64_C(3600000000000) },
    };

    *unit_ns = 1;
    if (precision == NULL || precision[0] == '\0')
        return true;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(precision, units[i].name) == 0) {
            *unit_ns = units[i].ns;
            return true;
        }
    return false;
}
