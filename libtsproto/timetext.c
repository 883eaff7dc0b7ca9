#include "libtsproto/timetext_priv.h"

#include <string.h>

enum part { LITERAL, YEAR, YEAR2, MONTH2, MONTH, MON_SHORT, MON_LONG, DAY2, DAY, DAY_BLANK, HOUR24, HOUR12_2,
            HOUR12, AM_UPPER, AM_LOWER, MINUTE2, MINUTE, SECOND2, SECOND, ZONE_Z_COLON, ZONE_Z4, ZONE_Z2,
            ZONE_COLON, ZONE_4, ZONE_2, ZONE_NAME, WEEKDAY_LONG, WEEKDAY, FRACTION, UNKNOWN };

/* The longer before what it begins with. */
static const struct { const char *text; enum part part; } parts[] = {
    { "January", MON_LONG }, { "Jan", MON_SHORT }, { "Monday", WEEKDAY_LONG }, { "Mon", WEEKDAY },
    { "MST", ZONE_NAME }, { "2006", YEAR }, { "__2", UNKNOWN }, { "_2006", LITERAL }, { "_2", DAY_BLANK },
    { "002", UNKNOWN }, { "01", MONTH2 }, { "02", DAY2 }, { "03", HOUR12_2 }, { "04", MINUTE2 },
    { "05", SECOND2 }, { "06", YEAR2 }, { "15", HOUR24 }, { "1", MONTH }, { "2", DAY }, { "3", HOUR12 },
    { "4", MINUTE }, { "5", SECOND }, { "PM", AM_UPPER }, { "pm", AM_LOWER },
    { "Z070000", UNKNOWN }, { "Z07:00:00", UNKNOWN }, { "-070000", UNKNOWN }, { "-07:00:00", UNKNOWN },
    { "Z07:00", ZONE_Z_COLON }, { "Z0700", ZONE_Z4 }, { "Z07", ZONE_Z2 }, { "-07:00", ZONE_COLON },
    { "-0700", ZONE_4 }, { "-07", ZONE_2 },
};
static const char *const months[] = { "January", "February", "March", "April", "May", "June", "July",
                                      "August", "September", "October", "November", "December" };
static const char *const weekdays[] = { "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday",
                                        "Saturday" };

static bool digit(char c) { return c >= '0' && c <= '9'; }

/* ".000" or ",999": as many of one digit, and no other digit behind. */
static size_t fraction_part(const char *at, const char *end)
{
    const char *p = at + 1;

    if ((*at != '.' && *at != ',') || p == end || (*p != '0' && *p != '9'))
        return 0;
    while (p < end && *p == at[1])
        p++;
    return p < end && digit(*p) ? 0 : (size_t)(p - at);
}

/* What the layout has at `at`, and of how many bytes. */
static enum part part_at(const char *at, const char *end, size_t *size)
{
    *size = fraction_part(at, end);
    if (*size > 0)
        return FRACTION;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        *size = strlen(parts[i].text);
        if ((size_t)(end - at) >= *size && memcmp(at, parts[i].text, *size) == 0) {
            if (parts[i].part != LITERAL)
                return parts[i].part;
            break;                                     /* "_2006" is an underscore and a year */
        }
    }
    *size = 1;
    return LITERAL;
}

enum kl_code tsp_time_layout_check(struct kl_span layout, struct kl_err *err)
{
    const char *at = layout.at, *end = at + layout.size;
    size_t      size;

    for (; at < end; at += size)
        if (part_at(at, end, &size) == UNKNOWN)
            return kl_fail(err, KL_EINVAL, "a time layout with \"%.*s\", which is not supported",
                           (int)size, at);
    return layout.size > 0 ? KL_OK : kl_fail(err, KL_EINVAL, "an empty time layout");
}

struct moment { int year, month, day, hour, minute, second, millis, zone_s; bool pm, has_pm; };

/* Digits at *at, `least` to `most` of them. */
static bool number(const char **at, const char *end, int least, int most, int *v)
{
    int n = 0, count = 0;

    for (; count < most && *at < end && digit(**at); count++)
        n = n * 10 + *(*at)++ - '0';
    *v = n;
    return count >= least;
}

static bool name(const char **at, const char *end, const char *const *names, int count, size_t size,
                 int *which)
{
    for (int i = 0; i < count; i++) {
        size_t n = size > 0 ? size : strlen(names[i]);
        if ((size_t)(end - *at) >= n && strncasecmp(*at, names[i], n) == 0) {
            *at += n;
            *which = i;
            return true;
        }
    }
    return false;
}

static void fraction(const char **at, const char *end, int *millis)
{
    int weight = 100;

    *millis = 0;
    for (; *at < end && digit(**at); (*at)++, weight /= 10)
        *millis += weight * (**at - '0');
}

static bool zone(const char **at, const char *end, enum part p, int *seconds)
{
    bool z = p == ZONE_Z_COLON || p == ZONE_Z4 || p == ZONE_Z2;
    int  sign, hours, minutes = 0;

    if (z && *at < end && **at == 'Z') {
        (*at)++;
        *seconds = 0;
        return true;
    }
    if (*at == end || (**at != '+' && **at != '-'))
        return false;
    sign = *(*at)++ == '-' ? -1 : 1;
    if (!number(at, end, 2, 2, &hours))
        return false;
    if (p == ZONE_COLON || p == ZONE_Z_COLON) {
        if (*at == end || *(*at)++ != ':')
            return false;
    }
    if (p != ZONE_2 && p != ZONE_Z2 && !number(at, end, 2, 2, &minutes))
        return false;
    *seconds = sign * (hours * 3600 + minutes * 60);
    return hours <= 24 && minutes < 60;
}

static bool zone_name(const char **at, const char *end)
{
    static const char *const names[] = { "UTC", "GMT", "Z" };
    int which;

    return name(at, end, names, 3, 0, &which);
}

static bool half_day(const char **at, const char *end, const char *am, const char *pm, struct moment *m)
{
    if (end - *at < 2 || (memcmp(*at, am, 2) != 0 && memcmp(*at, pm, 2) != 0))
        return false;
    m->has_pm = true;
    m->pm = memcmp(*at, pm, 2) == 0;
    *at += 2;
    return true;
}

static bool seconds(const char **at, const char *end, int least, bool fraction_follows, struct moment *m)
{
    if (!number(at, end, least, 2, &m->second))
        return false;
    if (!fraction_follows && end - *at >= 2 && (**at == '.' || **at == ',') && digit((*at)[1])) {
        (*at)++;
        fraction(at, end, &m->millis);
    }
    return true;
}

static bool take(enum part p, const char **at, const char *end, bool fraction_follows, struct moment *m)
{
    int i;

    switch (p) {
    case YEAR:       return number(at, end, 4, 4, &m->year);
    case YEAR2:
        if (!number(at, end, 2, 2, &i))
            return false;
        m->year = i >= 69 ? 1900 + i : 2000 + i;       /* as Go, and POSIX */
        return true;
    case MONTH2:     return number(at, end, 2, 2, &m->month);
    case MONTH:      return number(at, end, 1, 2, &m->month);
    case MON_SHORT:
    case MON_LONG:
        if (!name(at, end, months, 12, p == MON_SHORT ? 3 : 0, &i))
            return false;
        m->month = i + 1;
        return true;
    case WEEKDAY:    return name(at, end, weekdays, 7, 3, &i);
    case WEEKDAY_LONG: return name(at, end, weekdays, 7, 0, &i);
    case DAY2:       return number(at, end, 2, 2, &m->day);
    case DAY_BLANK:
        if (*at < end && **at == ' ')
            (*at)++;
        return number(at, end, 1, 2, &m->day);
    case DAY:        return number(at, end, 1, 2, &m->day);
    case HOUR24:     return number(at, end, 1, 2, &m->hour);
    case HOUR12_2:   return number(at, end, 2, 2, &m->hour) && m->hour <= 12;
    case HOUR12:     return number(at, end, 1, 2, &m->hour) && m->hour <= 12;
    case AM_UPPER:   return half_day(at, end, "AM", "PM", m);
    case AM_LOWER:   return half_day(at, end, "am", "pm", m);
    case MINUTE2:    return number(at, end, 2, 2, &m->minute);
    case MINUTE:     return number(at, end, 1, 2, &m->minute);
    case SECOND2:    return seconds(at, end, 2, fraction_follows, m);
    case SECOND:     return seconds(at, end, 1, fraction_follows, m);
    case FRACTION:
        if (*at == end || (**at != '.' && **at != ','))
            return false;
        (*at)++;
        fraction(at, end, &m->millis);
        return digit((*at)[-1]);
    case ZONE_NAME:  return zone_name(at, end);
    default:         return zone(at, end, p, &m->zone_s);
    }
}

static bool leap(int y) { return y % 4 == 0 && (y % 100 != 0 || y % 400 == 0); }

/* Days since 1970-01-01 of a date in the proleptic Gregorian calendar. */
static int64_t days_of(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400, of_era = y - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static bool exists(const struct moment *m)
{
    static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

    return m->month >= 1 && m->month <= 12 && m->day >= 1 &&
           m->day <= days[m->month - 1] + (m->month == 2 && leap(m->year)) && m->hour < 24 &&
           m->minute < 60 && m->second < 60;
}

bool tsp_time_parse(struct kl_span layout, struct kl_span text, int64_t *ms)
{
    const char   *l = layout.at, *l_end = l + layout.size, *at = text.at, *end = at + text.size;
    struct moment m = { .month = 1, .day = 1 };
    size_t        size;

    for (; l < l_end; l += size) {
        enum part p = part_at(l, l_end, &size);
        if (p == LITERAL) {
            if (at == end || *at++ != *l)
                return false;
        } else if (p == UNKNOWN ||
                   !take(p, &at, end, l + size < l_end && fraction_part(l + size, l_end) > 0, &m)) {
            return false;
        }
    }
    if (m.has_pm)
        m.hour = m.hour % 12 + (m.pm ? 12 : 0);
    if (at != end || !exists(&m))
        return false;
    *ms = ((days_of(m.year, m.month, m.day) * 24 + m.hour) * 60 + m.minute) * 60000 +
          (int64_t)(m.second - m.zone_s) * 1000 + m.millis;
    return true;
}
