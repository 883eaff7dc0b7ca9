#ifndef TSP_OTLP_LABELS_H
#define TSP_OTLP_LABELS_H
/*
 * OTLP's names as Prometheus': metric names with units and _total, attributes as labels, a resource as
 * job, instance and target_info. By the OpenTelemetry specification's "Prometheus and OpenMetrics
 * Compatibility", and where that leaves room, as Prometheus 3 does it. Pure; texts lie in the
 * caller's arena or in the message.
 *
 *                                 characters                  unit and _total
 *   UnderscoreEscapingWithSuffixes     [a-zA-Z0-9_:], else _       appended        (the default)
 *   UnderscoreEscapingWithoutSuffixes  the same                    not
 *   NoUTF8EscapingWithSuffixes         as sent                     appended
 *   NoTranslation                      as sent                     not
 */
#include "libtsproto/otlp.h"

enum tsp_otlp_naming { TSP_OTLP_ESCAPED_SUFFIXED, TSP_OTLP_ESCAPED, TSP_OTLP_UTF8_SUFFIXED,
                       TSP_OTLP_AS_SENT, TSP_OTLP_NAMINGS };
extern const char *const tsp_otlp_naming_names[TSP_OTLP_NAMINGS];

struct tsp_otlp_settings {
    enum tsp_otlp_naming naming;
    bool promote_all;                                  /* resource attributes become labels: all */
    const char *promoted, *ignored;                    /* but those; or those (lists, comma-separated) */
    bool keep_identifying;                             /* service.name and its like in target_info, too */
    bool scope_labels;                                 /* otel_scope_name, _version, _schema_url, ... */
    bool target_info;
    bool custom_hists;                                 /* explicit buckets as native histograms */
    bool refuse_delta;
};

/* KL_EINVAL where nothing is left of the name, or it is no UTF-8; KL_ELIMIT: longer than any label. */
enum kl_code tsp_otlp_metric_name(const struct tsp_otlp_settings *o, const struct tsp_otlp_metric *m,
                                  struct kl_arena *arena, struct kl_span *name, struct kl_err *err);
enum kl_code tsp_otlp_label_name(const struct tsp_otlp_settings *o, struct kl_span key,
                                 struct kl_arena *arena, struct kl_span *name, struct kl_err *err);
/* The unit for metadata: "By/s" is bytes_per_second. */
enum kl_code tsp_otlp_unit_name(struct kl_span unit, struct kl_arena *arena, struct kl_span *name,
                                struct kl_err *err);
/* An AnyValue as text: strings as they are, numbers as Prometheus prints them, lists and maps as JSON with
 * sorted keys, bytes in base64. KL_EINVAL: no such value; KL_ELIMIT: nested deeper than
 * TSP_OTLP_DEPTH_MAX, more than TSP_OTLP_KEYS_MAX keys in a map, or longer than any label. */
enum { TSP_OTLP_DEPTH_MAX = 8, TSP_OTLP_KEYS_MAX = 128 };
enum kl_code tsp_otlp_value_text(struct kl_span value, struct kl_arena *arena, struct kl_span *text,
                                 struct kl_err *err);

/*
 * What all points below one scope have in common, made once for them: else each of a hostile message's
 * points could cost a walk through a resource as large as the rest. `promoted` gives way to a label of
 * that name, `set` takes its place: the scope's labels, job and instance. A failure is kept, and told for
 * each point. The texts lie in `arena` or the message.
 */
struct tsp_otlp_shared {
    struct kl_err err;                                 /* code KL_OK: it is fine */
    size_t promoted_count, set_count;
    struct kl_label promoted[KL_LABELS_MAX], set[KL_LABELS_MAX];
};
void tsp_otlp_shared(const struct tsp_otlp_settings *o, const struct tsp_otlp_resource *r,
                     const struct tsp_otlp_scope *s, struct kl_arena *arena, struct tsp_otlp_shared *shared);
/*
 * Adds the labels of a point's series but for its name: attributes (those that become one name are
 * joined with ";", in the order of their keys) and what is shared; each name once. KL_ELIMIT past
 * KL_LABELS_MAX or the arena.
 */
enum kl_code tsp_otlp_labels(const struct tsp_otlp_settings *o, const struct tsp_otlp_shared *shared,
                             const struct tsp_otlp_point *point, struct kl_labels_builder *b,
                             struct kl_arena *arena, struct kl_err *err);
/* Adds the labels of the resource's target_info, its name too. KL_ENOENT: it has none, as nothing
 * identifies the resource, or nothing else is known of it. */
enum kl_code tsp_otlp_target_info(const struct tsp_otlp_settings *o, const struct tsp_otlp_resource *r,
                                  struct kl_labels_builder *b, struct kl_arena *arena,
                                  struct kl_err *err);
/* In place of the label of that name, or as a new one. */
enum kl_code tsp_otlp_label_set(struct kl_labels_builder *b, struct kl_span name, struct kl_span value,
                                struct kl_err *err);
#endif
