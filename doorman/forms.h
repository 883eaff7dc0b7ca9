#ifndef DM_FORMS_H
#define DM_FORMS_H
/* What a sender's words say of the form of a body, whichever way it came. Pure. */
#include "doorman/doorman.h"

/* Does the Content-Type say `type`? One that is absent says nothing against it. */
bool dm_is_type(const char *header, const char *type);
/* Which remote write it says: `proto=` decides, 1.0 without it. False: neither. */
bool dm_remote_write_of(const char *content_type, enum dm_format *format);
/* The unit of Influx times: ns us ms s m h, NULL and "" are ns. False: none of these. */
bool dm_influx_unit(const char *precision, int64_t *unit_ns);
#endif
