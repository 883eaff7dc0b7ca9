/*
 * Reading Influx lines: every field that is a number is a sample of the metric measurement_field, with the
 * tags as labels, as VictoriaMetrics has it. Texts are left out, and counted.
 */
#include "doorman/dm_priv.h"

/* What every line of a push shares. */
struct push {
    struct dm_gate   *gate;
    struct dm_ticket *ticket;
    struct dm_sender  sender;
    int64_t           unit_ns;
    struct kl_span    db_label, db, separator;
    struct kl_fp      db_fp;
};

/* Rounded down; beyond the range of milliseconds the nearest that is refused as too old or too new. */
static int64_t to_ms(int64_t time, int64_t unit_ns)
{
    int64_t ms;

    if (unit_ns >= 1000000)
        return !__builtin_mul_overflow(time, unit_ns / 1000000, &ms) ? ms
                                                                     : time < 0 ? INT64_MIN : INT64_MAX;
    unit_ns = 1000000 / unit_ns;                       /* units a millisecond */
    return time / unit_ns - (time % unit_ns < 0);
}

/* A tag of the same name is the sender's better knowledge. False: no room for one more label. */
static bool add_db(const struct push *p, struct kl_labels_builder *b, struct kl_err *err)
{
    if (p->db.size == 0 || p->db_label.size == 0)
        return true;
    for (size_t i = 1; i < b->count; i++)
        if (kl_span_eq(b->pairs[i].name, p->db_label))
            return true;
    return kl_labels_add(b, p->db_label, p->db, err) == KL_OK;
}

/* What a field's series is remembered by: the database, the line up to its fields, the field's name. */
static struct kl_fp key_of(const struct push *p, struct kl_fp line_fp, struct kl_span field_raw)
{
    struct kl_fp parts[3] = { p->db_fp, line_fp, kl_hash128(field_raw.at, field_raw.size) };

    return dm_key(&p->sender, DM_INFLUX, kl_span(parts, sizeof parts));
}

static void take_field(const struct push *p, const struct tsp_influx_line *line, struct kl_fp line_fp,
                       const struct tsp_influx_field *field, int64_t time_ms)
{
    struct kl_fp     key = key_of(p, line_fp, field->name_raw);
    struct dm_series s = { .gate = p->gate, .ticket = p->ticket, .sender = &p->sender,
                           .source = { .pairs = line->labels } };
    struct kl_buf   *name = &p->gate->name;
    double           value = field->value;

    kl_buf_reset(name);
    kl_buf_add(name, line->measurement.at, line->measurement.size);
    kl_buf_add(name, p->separator.at, p->separator.size);
    kl_buf_add(name, field->name.at, field->name.size);
    line->labels->pairs[0].value = kl_buf_span(name);
    if (dm_series_find(&s, &key, 1))
        dm_series_floats(&s, &time_ms, &value, NULL, 1);
}

static void take_line(const struct push *p, const struct tsp_influx_line *line)
{
    struct dm_gate *g = p->gate;
    int64_t         time_ms = line->has_time ? to_ms(line->time, p->unit_ns) : p->ticket->push->now_ms;
    struct kl_fp    fp = kl_hash128(line->series_raw.at, line->series_raw.size);
    struct tsp_influx_field field;
    enum tsp_influx_value   what;
    struct kl_err           err;

    p->ticket->timeless = p->ticket->timeless || !line->has_time;
    if (!add_db(p, line->labels, &err)) {
        dm_bad_line(p->ticket, err.text);
        return;
    }
    while ((what = tsp_influx_field(g->influx, &field, &err)) != TSP_INFLUX_NO_MORE) {
        switch (what) {
        case TSP_INFLUX_NUMBER: take_field(p, line, fp, &field, time_ms); break;
        case TSP_INFLUX_TEXT:   kl_count(g->counters->c[DM_C_TEXTS], 1); break;
        default:                dm_bad_line(p->ticket, err.text); break;
        }
    }
}

void dm_take_influx(struct dm_gate *g, struct dm_ticket *t, struct kl_span body)
{
    const struct dm_import *import = &t->push->import;
    struct push             p = { .gate = g, .ticket = t, .db = import->db,
                                  .unit_ns = import->unit_ns > 0 ? import->unit_ns : 1,
                                  .db_label = kl_span_str(g->options->influx_db_label),
                                  .separator = kl_span_str(g->options->influx_separator) };
    struct tsp_influx_line  line;
    enum tsp_influx_item    item;
    struct kl_err           err;

    if (!dm_sender_of(g, t, &p.sender)) {
        dm_ticket_fail(t, 503, 1, "too many tenants");
        return;
    }
    p.db_fp = kl_hash128(p.db.at, p.db.size);
    tsp_influx_open(g->influx, body);
    while ((item = tsp_influx_next(g->influx, &line, &err)) != TSP_INFLUX_END) {
        if (item == TSP_INFLUX_LINE)
            take_line(&p, &line);
        else
            dm_bad_line(t, err.text);
    }
}
