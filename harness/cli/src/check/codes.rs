//! The table of all that is checked: one code and one template for each. `docs/checks.md` explains them.

use super::codes::Level::{Error, Warning};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something does not work as it is written.
    Error,
    /// It works, and is worth a second look; an error with `--strict`.
    Warning,
}

impl Level {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Error => "error",
            Warning => "warning",
        }
    }
}

/// A rule. Codes are for ever: one that is given up stays in the table.
#[derive(Debug)]
pub struct Code {
    /// `PS` and three digits.
    pub id: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What is wrong, in a few words.
    pub title: &'static str,
    /// What is wrong here, with `{name}`s for what differs.
    pub says: &'static str,
    /// What to do.
    pub mend: &'static str,
    /// Nothing finds it any more.
    pub is_retired: bool,
}

/// The rule of this code, in any case.
pub fn code(id: &str) -> Option<&'static Code> {
    CODES.iter().find(|code| code.id.eq_ignore_ascii_case(id))
}

const fn rule(id: &'static str, level: Level, title: &'static str, says: &'static str, mend: &'static str) -> Code {
    Code { id, level, title, says, mend, is_retired: false }
}

/// All of them, by their numbers.
#[rustfmt::skip]
pub const CODES: &[Code] = &[
    rule("PS001", Error, "a file cannot be read", "cannot be read: {why}", "give a file, a folder, or - for standard input"),
    rule("PS002", Error, "a file is not YAML", "is not YAML: {why}", "mend the syntax in this line"),
    rule("PS003", Error, "a key stands twice", "{key} stands here again, after line {first}", "leave one of the two: which one counts differs by reader"),
    rule("PS004", Error, "a file is empty", "is empty", "write what belongs there, or leave the file out"),
    rule("PS005", Error, "a file is beyond what is read", "has more than {max} {what}", "split it, or leave it out"),
    rule("PS006", Error, "nothing of Penstock's was found", "nothing of Penstock's is in what was read ({files})", "give the plugin, the EnvoyFilter, the chart's values or the configuration too"),
    rule("PS007", Error, "a kustomization names what is not there", "{name} is not there", "write the name of a file or a folder, relative to this file"),
    rule("PS008", Warning, "a kustomization changes what is checked", "{key} is not applied before the check", "check what comes out: kubectl kustomize {folder} | penstock check -"),
    rule("PS009", Error, "a file is a template", "is a template of Helm's", "check what comes out: helm template CHART | penstock check -"),

    rule("PS101", Error, "the configuration is refused", "{problem}", "every key is in docs/configuration.md"),
    rule("PS102", Error, "the configuration is not JSON", "is not JSON: {why}", "in a string Penstock reads JSON alone"),
    rule("PS103", Warning, "a plugin has no configuration", "there is no {key}: nothing is limited, and no version is drawn", "write {key}"),
    rule("PS104", Error, "the configuration has the wrong type", "@type is {type}: the filter gets protobuf's bytes, and refuses them", "write type.googleapis.com/google.protobuf.StringValue, and the JSON as its value"),

    rule("PS201", Error, "headers are to wait, and nothing lets them", "waitForBody is true, and no EnvoyFilter sets allow_on_headers_stop_iteration: requests with a body end in 504", "add the EnvoyFilter of istio/mesh, or leave waitForBody out"),
    rule("PS202", Error, "allow_on_headers_stop_iteration is missing", "waitForBody is true, and allow_on_headers_stop_iteration is not: requests with a body end in 504", "write allow_on_headers_stop_iteration: true"),
    rule("PS203", Warning, "headers do not wait", "without allow_on_headers_stop_iteration the version is drawn before the model is known", "write allow_on_headers_stop_iteration: true"),
    rule("PS204", Error, "plugin and EnvoyFilter have different configurations", "differs from the EnvoyFilter's configuration (line {line}) at {where}", "make them the same but for waitForBody; the EnvoyFilter's is in force"),
    rule("PS205", Error, "plugin and EnvoyFilter load different things", "{key} is {value}, and {other} in the plugin is {others}", "write the same in both"),
    rule("PS206", Error, "two plugins in one chain", "{other} counts and charges every request as well", "apply one of the two"),
    rule("PS207", Error, "the EnvoyFilter replaces a filter of another name", "no subFilter is {wanted}, as Istio calls the filter of {plugin}", "write that name: it has the plugin's namespace and name in it"),
    rule("PS208", Error, "an EnvoyFilter without its plugin", "no WasmPlugin or TrafficExtension gives the filter its place in the chain: requests pass uncounted", "apply the plugin too, or delete this"),
    rule("PS209", Warning, "an EnvoyFilter without priority", "there is no priority, so that its place among EnvoyFilters is by chance of age and name", "write priority: 10"),
    rule("PS210", Error, "type_urls lack RBAC", "type_urls lack the RBAC filter, which stands in where a module cannot be fetched", "add type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"),
    rule("PS211", Warning, "a module is not pinned", "the module is not pinned to a digest: another one may be served under the same name", "write sha256: the digest of the image's manifest, or of the file"),
    rule("PS212", Error, "a trap closes the gateway", "{key} is {value}: after a trap every request on that worker gets 503", "write FAIL_RELOAD"),
    rule("PS213", Warning, "a trap opens the gateway", "{key} is FAIL_OPEN: after a trap requests pass uncounted and unlimited", "write FAIL_RELOAD"),
    rule("PS214", Error, "the phase is before authentication", "phase is {phase}, and tenants come from JWT claims, which are not known by then", "write STATS"),
    rule("PS215", Error, "a selector finds no gateway", "{selector} selects none of the gateways here ({gateways})", "write the gateway's labels"),
    rule("PS216", Error, "targetRefs lead nowhere", "there is no {kind} {name} in namespace {namespace}", "write the name of a Gateway of the same namespace"),
    rule("PS217", Error, "the EnvoyFilter is for other pods than the plugin", "binds to {value}, and the plugin to {others}: where only one of them is, headers do not wait", "bind both in the same way, in the same namespace"),
    rule("PS218", Error, "a filter is replaced by one that is not there", "the filter is {name}, and no EXTENSION_CONFIG here adds that", "write the name of the added configuration"),
    rule("PS219", Error, "vm_id is missing", "without vm_id shared data and limits stand under an id that others have too", "write vm_id: penstock"),
    rule("PS220", Error, "plugins have different vm_ids", "vm_id is {value}, and {others} in line {line}: they share no limits and gauges", "write the same in all"),
    rule("PS221", Error, "a patch without effect", "{operation} of a filter that is configured by discovery does nothing", "add an EXTENSION_CONFIG, and REPLACE the filter by one that discovers it"),

    rule("PS301", Error, "a label has no stat tag", "nothing cuts the label {label} out of stat names: it stays in the metric's name", "add {label}"),
    rule("PS302", Error, "a stat tag is the end of another", "{tag} is the end of {other}, and cuts into it, as the patterns are not anchored", "rename one of them"),
    rule("PS303", Error, "a buffer is smaller than what is to be counted", "{bytes} bytes, and {key} is {wanted}: what is longer gets 413", "write {wanted}, or lower {key}"),
    rule("PS304", Warning, "a buffer is small for prompts", "{bytes} bytes: what is longer gets 413 before Penstock sees it", "write per_connection_buffer_limit_bytes: 4194304, or countBytesMax: {bytes} into the configuration if that is meant"),
    rule("PS305", Error, "the EDGE profile shrinks buffers", "the profile EDGE has buffers of {bytes} bytes: what is longer gets 413", "write {key}: 4194304 beside it"),
    rule("PS306", Error, "paths are not made normal", "{key} is {value}: servers read other paths than those that were checked", "write {wanted}"),
    rule("PS307", Error, "100-continue cannot be answered", "{key}: clients that send Expect: 100-continue get 417 where headers wait for the body, and not all of them send again", "write {wanted}"),
    rule("PS308", Error, "a timeout is too short for an answer", "the timeout is {value}: a long answer is broken off", "write 600s, or 0s for none"),
    rule("PS309", Error, "retries send a prompt twice", "{condition} sends a prompt again that a server may have begun", "write connect-failure,refused-stream"),
    rule("PS310", Error, "a mesh limit has no rate limit cluster", "mesh.service is {service}, and there is no such cluster", "add the cluster, or write the name of one: outbound|8081||ratelimit.NAMESPACE.svc.cluster.local in Istio"),
    rule("PS311", Warning, "a cold start probes a cluster that is not there", "coldStart.cluster is {cluster}, and there is no such cluster: no request waits for a server", "write the name of the cluster that the route has: outbound|PORT||HOST in Istio"),

    rule("PS401", Error, "two owners of the weights", "weights between destinations, and Penstock draws the version too", "route on x-penstock-version, without weights"),
    rule("PS402", Error, "a rollout moves weights that Penstock owns", "{kind} {name} moves the weights of a route, and Penstock splits {model} itself", "let one of them split: one version in the configuration, or no traffic routing in the {kind}"),
    rule("PS403", Error, "a route for what is not configured", "no {what} {value} is configured", "write one that is, or take the route out"),
    rule("PS404", Error, "a version without a route", "no route is for {model} {version}: its share is served by another", "add a route on x-penstock-model and x-penstock-version"),
    rule("PS405", Error, "a route to a subset that is not there", "no DestinationRule for {host} has the subset {subset}: 503", "add the subset"),
    rule("PS406", Warning, "a version that nothing scales", "no ScaledObject asks for {model} {version}", "add one, or take no notice if its replicas are fixed"),
    rule("PS407", Error, "a route for a host that Penstock is not for", "{host} is not in hosts: what goes there passes uncounted", "add {host} to hosts, or leave hosts out"),
    rule("PS408", Error, "a host without a route", "no route is for {host}", "write the host of a route"),

    rule("PS409", Error, "a shadow that no route copies to", "{model} marks requests for {version} with x-penstock-shadow, and no route mirrors those", "add a route on x-penstock-shadow with a mirror"),
    rule("PS410", Warning, "a copy names another version's model", "a copy has the body of the version that serves, with {value} for its model, and the server of {version} takes {wanted}", "let both servers take the same name, or mirror to a listener of your own that renames"),
    rule("PS411", Error, "a request is sent on under another version's name", "{aggregate} goes on to {cluster} with {value} for the model, and the server of {cluster} takes {wanted}: 404", "let both servers take the same name, or leave {cluster} out"),

    rule("PS501", Error, "claims are looked for where they are not", "jwtPayload is {value}, and claims are left under {others}", "write {others}, or leave jwtPayload out"),
    rule("PS502", Error, "tenants come from tokens that nobody verifies", "tenants come from JWT claims, and no jwt_authn filter in front leaves any", "put jwt_authn with payload_in_metadata: jwt_payload in front"),

    rule("PS601", Error, "a query for a model that is not configured", "no model {value} is configured", "write one of {known}"),
    rule("PS602", Error, "a query for a version that is not configured", "{model} has no version {value}", "write one of {known}"),
    rule("PS603", Error, "a query for a metric that there is not", "there is no metric {metric}", "the metrics are in docs/metrics.md"),
    rule("PS604", Error, "a query for a label that there is not", "{metric} never has {label}", "its labels are in docs/metrics.md"),
    rule("PS605", Error, "a threshold is not what a replica may hold", "threshold is {value}, and pending.perReplica of {model} is {wanted}", "write the same in both"),
    rule("PS606", Error, "a version that gets requests is scaled to zero", "minReplicaCount is 0, and {model} {version} has weight {weight}: an idle one gets 503s, and nothing brings it back", "write 1, or weight 0, or give it a coldStart, or ask for penstock_admitted_tokens_total too"),
    rule("PS607", Warning, "replicas that are never asked for", "{replicas} replicas of {share} tokens are more than pending.ceiling, {ceiling}: requests are shed before", "raise pending.ceiling, or lower maxReplicaCount"),
    rule("PS608", Error, "a query that is not a total", "{what}", "write a sum() of penstock_pending_tokens and metricType: AverageValue: the HPA divides by the number of replicas"),
    rule("PS609", Error, "no series counts as zero", "ignoreNullValues is not \"false\": a lost scrape scales in at the peak", "write ignoreNullValues: \"false\""),
    rule("PS610", Error, "a query divides by other figures than the configuration has", "nothing divides the {kind} tokens by {wanted}, which is {key} of {model}", "write the same in both; the chart makes the query of the configuration"),
    rule("PS611", Error, "a query in replicas, with another threshold than 1", "threshold is {value}, and the query is in replicas", "write threshold: \"1\""),
    rule("PS612", Error, "the last replicas go at once", "cooldownPeriod is {seconds} s, and one pod at a time takes {wanted} s: whoever is left then goes at once", "write more than {wanted}"),
];
