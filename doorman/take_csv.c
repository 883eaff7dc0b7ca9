/* Reading comma-separated values: every metric column of a row is a sample. */
#include "doorman/dm_priv.h"

static void take_row(struct dm_gate *g, struct dm_ticket *t, const struct dm_sender *sender,
                     struct kl_fp format_fp, const struct tsp_csv_row *row)
{
    struct kl_fp        parts[3] = { format_fp, kl_hash128(row->labels_raw.at, row->labels_raw.size) };
    struct tsp_csv_cell cell;
    enum tsp_csv_value  what;
    struct kl_err       err;

    t->timeless = t->timeless || !row->has_time;
    while ((what = tsp_csv_metric(g->csv, &cell, &err)) != TSP_CSV_NO_MORE) {
        struct dm_series s = { .gate = g, .ticket = t, .sender = sender,
                               .source = { .pairs = row->labels } };
        int64_t          time_ms = row->has_time ? row->time_ms : t->push->now_ms;
        struct kl_fp     key;
        if (what == TSP_CSV_BAD_VALUE) {
            dm_bad_line(t, err.text);
            continue;
        }
        parts[2] = kl_hash128(cell.metric.at, cell.metric.size);
        key = dm_key(sender, DM_CSV, kl_span(parts, sizeof parts));
        row->labels->pairs[0].value = cell.metric;
        if (dm_series_find(&s, &key, 1))
            dm_series_floats(&s, &time_ms, &cell.value, NULL, 1);
    }
}

void dm_take_csv(struct dm_gate *g, struct dm_ticket *t, struct kl_span body)
{
    const struct tsp_csv_format *format = t->push->import.csv;
    struct kl_span     text = tsp_csv_format_text(format);
    struct kl_fp       fp = kl_hash128(text.at, text.size);
    struct dm_sender   sender;
    struct tsp_csv_row row;
    enum tsp_csv_item  item;
    struct kl_err      err;

    if (!dm_sender_of(g, t, &sender)) {
        dm_ticket_fail(t, 503, 1, "too many tenants");
        return;
    }
    tsp_csv_open(g->csv, body, format);
    while ((item = tsp_csv_next(g->csv, &row, &err)) != TSP_CSV_END) {
        if (item == TSP_CSV_ROW)
            take_row(g, t, &sender, fp, &row);
        else
            dm_bad_line(t, err.text);
    }
}
