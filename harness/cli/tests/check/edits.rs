//! Faults: what is changed in a file that is right, which code says so, and in which line.

/// One fault.
pub struct Edit {
    /// The code that it breaks.
    pub code: &'static str,
    /// The file in `good`.
    pub base: &'static str,
    /// What stands there once ...
    pub find: &'static str,
    /// ... and is replaced by this.
    pub replace: &'static str,
    /// The same once more, where a fault needs a second place; empty otherwise.
    pub also: [(&'static str, &'static str); 2],
    /// What stands in the line where the fault is to be found, and nowhere else, after the change.
    pub at: &'static str,
}

const fn edit(
    code: &'static str,
    base: &'static str,
    find: &'static str,
    replace: &'static str,
    at: &'static str,
) -> Edit {
    Edit { code, base, find, replace, also: [("", ""); 2], at }
}

const fn also(find: &'static str, replace: &'static str, edit: Edit) -> Edit {
    Edit { also: [(find, replace), edit.also[0]], ..edit }
}

const ISTIO: &str = "istio.yaml";
const API: &str = "gateway-api.yaml";
const ENVOY: &str = "envoy.yaml";
const CONFIG: &str = "config.yaml";
const VALUES: &str = "values.yaml";
const SCALING: &str = "scaling.yaml";
const ROLLOUT: &str = "rollout.yaml";

/// All of them.
#[rustfmt::skip]
pub const EDITS: &[Edit] = &[
    edit("PS003", ISTIO, "  phase: STATS\n", "  phase: STATS\n  phase:  STATS\n", "phase:  STATS"),
    edit("PS003", ENVOY, r#""output": {"expect": 256,"#, r#""output": {"expect": 255, "expect": 256,"#, r#""expect": 255"#),

    edit("PS101", ENVOY, r#""output": {"expect": 256, "max": 4096}"#, r#""output": {"expect": 256, "maximum": 4096}"#, "maximum"),
    edit("PS101", ENVOY, r#""every": "1m""#, r#""every": "1x""#, "1x"),
    edit("PS101", CONFIG, "every: 1m", "every: 1x", "1x"),
    edit("PS101", CONFIG, "tokens: 60000", "token: 60000", "token: 60000"),
    edit("PS101", CONFIG, "limits:", "limit:", "limit:"),
    edit("PS101", VALUES, "weight: 95", "weight: many", "many"),
    edit("PS101", VALUES, "  models:", "  paths: {other: maybe}\n  models:", "maybe"),
    edit("PS101", API, "- {name: canary, weight: 5}", "- {name: canary, weight: -5}", "weight: -5"),
    edit("PS102", ENVOY, r#""countBytesMax": 4194304,"#, r#""countBytesMax": 4194304"#, r#""tenant": {"from""#),
    edit("PS103", API, "    pluginConfig:\n      models:\n      - name: chat\n        versions:\n        - {name: stable, weight: 95}\n        - {name: canary, weight: 5}\n", "", "  wasm:"),
    edit("PS104", ENVOY, "type.googleapis.com/google.protobuf.StringValue", "type.googleapis.com/google.protobuf.BytesValue", "BytesValue"),

    edit("PS201", API, "      models:\n", "      waitForBody: true\n      models:\n", "waitForBody"),
    edit("PS202", ISTIO, "            allow_on_headers_stop_iteration: true\n", "", "          config:\n            root_id"),
    edit("PS202", ENVOY, "allow_on_headers_stop_iteration: true", "allow_on_headers_stop_iteration: false", "allow_on_headers_stop_iteration"),
    also("                  \"waitForBody\": true,\n", "", edit("PS203", ISTIO, "            allow_on_headers_stop_iteration: true\n", "", "          config:\n            root_id")),
    also("                      \"waitForBody\": true,\n", "", edit("PS203", ENVOY, "allow_on_headers_stop_iteration: true", "allow_on_headers_stop_iteration: false", "allow_on_headers_stop_iteration")),
    edit("PS204", ISTIO, "tokens: 60000, every", "tokens: 90000, every", "tokens: 90000"),
    edit("PS204", ISTIO, "      anonymous: deny\n", "", "    tenant:"),
    edit("PS205", ISTIO, "url: oci://registry.example.com/penstock:1", "url: oci://registry.example.com/penstock:2", "http_uri:"),
    edit("PS206", ISTIO, "---\napiVersion: networking.istio.io/v1alpha3\n", "---\napiVersion: extensions.istio.io/v1alpha1\nkind: TrafficExtension\nmetadata: {name: penstock, namespace: gateways}\nspec:\n  selector: {matchLabels: {istio: ingress}}\n  wasm: {url: \"file:///penstock.wasm\", pluginName: token-counter, failStrategy: FAIL_RELOAD, pluginConfig: {hosts: []}}\n---\napiVersion: networking.istio.io/v1alpha3\n", "kind: TrafficExtension"),
    edit("PS207", ISTIO, "kind: WasmPlugin\nmetadata: {name: penstock, namespace: gateways}", "kind: WasmPlugin\nmetadata: {name: llm, namespace: gateways}", "subFilter"),
    edit("PS208", ISTIO, "kind: WasmPlugin", "kind: WasmPlugins", "kind: EnvoyFilter"),
    edit("PS209", ISTIO, "  priority: 10\n  workloadSelector:", "  workloadSelector:", "spec:\n  workloadSelector:"),
    edit("PS210", ISTIO, "          - type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC\n", "", "type_urls:"),
    edit("PS211", API, "penstock@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "penstock:latest", "penstock:latest"),
    edit("PS212", API, "failStrategy: FAIL_RELOAD", "failStrategy: FAIL_CLOSE", "failStrategy"),
    edit("PS212", ENVOY, "                failure_policy: FAIL_RELOAD\n", "", "              config:"),
    edit("PS212", ISTIO, "            failure_policy: FAIL_RELOAD", "            failure_policy: FAIL_CLOSED", "FAIL_CLOSED"),
    edit("PS213", ENVOY, "failure_policy: FAIL_RELOAD", "failure_policy: FAIL_OPEN", "FAIL_OPEN"),
    edit("PS214", ISTIO, "phase: STATS", "phase: AUTHN", "AUTHN"),
    edit("PS215", ISTIO, "  selector: {istio: ingress}", "  selector: {istio: ingressgateway}", "matchLabels"),
    edit("PS216", API, "kind: Gateway, name: llm}", "kind: Gateway, name: ai}", "name: ai}"),
    edit("PS217", ISTIO, "    labels: {istio: ingress}", "    labels: {istio: ingress, tier: ai}", "workloadSelector"),
    edit("PS218", ISTIO, "operation: REPLACE\n      value:\n        name: penstock", "operation: REPLACE\n      value:\n        name: penstok", "name: penstok\n"),
    edit("PS219", ENVOY, "                  vm_id: shared\n", "", "vm_config:"),
    edit("PS220", ENVOY, "          - name: envoy.filters.http.router", "          - name: gauge\n            typed_config:\n              config:\n                root_id: pending-gauge\n                allow_on_headers_stop_iteration: true\n                failure_policy: FAIL_RELOAD\n                vm_config: {vm_id: other}\n                configuration: {\"@type\": google.protobuf.StringValue, value: \"{}\"}\n          - name: envoy.filters.http.router", "vm_id: other"),
    edit("PS221", ISTIO, "  - applyTo: LISTENER", "  - applyTo: HTTP_FILTER\n    match: {listener: {filterChain: {filter: {subFilter: {name: extensions.istio.io/wasmplugin/gateways.penstock}}}}}\n    patch: {operation:  MERGE, value: {name: penstock}}\n  - applyTo: LISTENER", "operation:  MERGE"),

    edit("PS301", ENVOY, "  - {tag_name: reason, regex: '(reason=\\.=(.*?);\\.;)'}\n", "", "stats_tags"),
    edit("PS301", ISTIO, "outcome, kind, phase", "outcome, phase", "extraStatTags"),
    edit("PS301", CONFIG, "# The configuration by itself.", "kind: Deployment\napiVersion: apps/v1\nspec: {template: {metadata: {annotations: {sidecar.istio.io/extraStatTags: \"model,version,phase,tenant,outcome,reason,handling,limit\"}}}}\n---", "extraStatTags"),
    edit("PS301", CONFIG, "# The configuration by itself.", "kind: ConfigMap\napiVersion: v1\ndata:\n  envoy.yaml: |\n    # Of an Envoy by itself.\n    static_resources: {listeners: [{name: penstock, per_connection_buffer_limit_bytes: 4194304, filter_chains: [{filters: [{typed_config: {normalize_path: true, merge_slashes: true, path_with_escaped_slashes_action: REJECT_REQUEST, http_filters: [{typed_config: {config: {root_id: penstock, failure_policy: FAIL_RELOAD, vm_config: {vm_id: a}, configuration: {\"@type\": google.protobuf.StringValue, value: \"{}\"}}}}]}}]}]}]}\n    stats_config:\n      stats_tags: [{tag_name: model}, {tag_name: version}, {tag_name: phase}, {tag_name: tenant}, {tag_name: outcome}, {tag_name: reason}, {tag_name: limit}, {tag_name: kind}]\n---", "stats_tags"),
    edit("PS302", ISTIO, "extraStatTags: [", "extraStatTags: [base_model, ", "extraStatTags"),
    edit("PS302", ENVOY, "  - {tag_name: kind", "  - {tag_name: submodel, regex: '(submodel=\\.=(.*?);\\.;)'}\n  - {tag_name: kind", "tag_name: submodel"),
    edit("PS303", ENVOY, "per_connection_buffer_limit_bytes: 4194304", "per_connection_buffer_limit_bytes: 2097152", "2097152"),
    edit("PS303", ENVOY, "              - match: {prefix: /, headers: [{name: x-penstock-version, string_match: {exact: stable}}]}", "              - match: {prefix: /, headers: [{name: x-penstock-version, string_match: {exact: stable}}]}\n                request_body_buffer_limit: 65536", "request_body_buffer_limit"),
    edit("PS303", ENVOY, "initial_stream_window_size: 8388608", "initial_stream_window_size: 65536", "initial_stream_window_size"),
    edit("PS303", ENVOY, r#""countBytesMax": 4194304"#, r#""countBytesMax": 4194304, "decodedBytesMax": 6291456"#, "per_connection_buffer_limit_bytes"),
    also("                      \"countBytesMax\": 4194304,\n", "", edit("PS304", ENVOY, "    per_connection_buffer_limit_bytes: 4194304\n", "", "- name: gateway")),
    edit("PS304", ISTIO, "        per_connection_buffer_limit_bytes: 4194304", "        per_connection_buffer_limit_bytes: 32768", "32768"),
    edit("PS305", CONFIG, "# The configuration by itself.", "apiVersion: networking.istio.io/v1beta1\nkind: ProxyConfig\nspec: {connectionSettings: {profile: EDGE, http2InitialStreamWindowSize: 4194304}}\n---", "EDGE"),
    edit("PS306", ENVOY, "          merge_slashes: true\n", "", "        typed_config:\n          \"@type\": type.googleapis.com/envoy.extensions.filters.network"),
    edit("PS306", ENVOY, "UNESCAPE_AND_FORWARD", "KEEP_UNCHANGED", "KEEP_UNCHANGED"),
    edit("PS306", ISTIO, "  pathNormalization: {normalization: DECODE_AND_MERGE_SLASHES}\n", "", "meshConfig:"),
    edit("PS307", ENVOY, "proxy_100_continue: false", "proxy_100_continue: true", "proxy_100_continue"),
    edit("PS307", ISTIO, "ENABLE_100_CONTINUE_HEADERS: \"false\"", "ENABLE_100_CONTINUE_HEADERS: \"true\"", "ENABLE_100_CONTINUE_HEADERS"),
    edit("PS308", ISTIO, "timeout: 600s", "timeout: 15s", "timeout: 15s"),
    edit("PS308", ENVOY, "cluster: canary, timeout: 0s", "cluster: canary", "cluster: canary"),
    edit("PS308", API, "request: 10m", "request: 10s", "request: 10s"),
    edit("PS309", ISTIO, "connect-failure,refused-stream", "connect-failure,5xx", "5xx"),
    edit("PS309", ENVOY, "retry_on: connect-failure", "retry_on: \"connect-failure,reset\"", "retry_on"),
    edit("PS310", ENVOY, "  - name: ratelimit\n", "", r#""service": "ratelimit""#),
    also(r#"mesh: {service: "outbound|8081||ratelimit.llm.svc.cluster.local""#, "mesh: {service: ratelimit", edit("PS310", ISTIO, r#""mesh": {"service": "outbound|8081||ratelimit.llm.svc.cluster.local""#, r#""mesh": {"service": "ratelimit""#, r#""service": "ratelimit""#)),
    edit("PS311", ENVOY, r#""coldStart": {"cluster": "canary"}"#, r#""coldStart": {"cluster": "canaries"}"#, "canaries"),

    edit("PS401", ISTIO, "    - destination: {host: chat.llm.svc.cluster.local, subset: canary}\n", "    - {destination: {host: chat.llm.svc.cluster.local, subset: canary}, weight: 10}\n    - {destination: {host: chat.llm.svc.cluster.local, subset:  stable}, weight: 90}\n", "    route:\n    - {destination"),
    edit("PS401", ENVOY, "route: {cluster: canary, timeout: 0s}", "route: {weighted_clusters: {clusters: [{name: canary, weight: 1}]}, timeout: 0s}", "weighted_clusters"),
    edit("PS401", API, "    backendRefs: [{name: chat-canary, port: 8000}]", "    backendRefs: [{name: chat-canary, port: 8000, weight: 1}, {name: chat-stable, port: 8000, weight: 9}]", "name: chat-stable, port: 8000, weight: 9"),
    also("    - headers: {x-penstock-version: {exact: stable}}\n", "    - uri: {prefix: /}\n", also("        x-penstock-model: {exact: chat}\n        x-penstock-version: {exact: canary}\n", "        x: {exact: y}\n", edit("PS401", ISTIO, "    - destination: {host: chat.llm.svc.cluster.local, subset: canary}\n", "    - {destination: {host: chat.llm.svc.cluster.local, subset: canary}, weight: 10}\n    - {destination: {host: chat.llm.svc.cluster.local, subset:  stable}, weight: 90}\n", "    route:\n    - {destination"))),
    edit("PS402", ISTIO, "---\nenv:", "---\napiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: serving, namespace: gateways}\nspec:\n  strategy:\n    canary:\n      trafficRouting: {istio: {virtualService: {name: llm}}}\n---\nenv:", "trafficRouting"),
    edit("PS402", ISTIO, "---\nenv:", "---\napiVersion: flagger.app/v1beta1\nkind: Canary\nmetadata: {name: chat, namespace: llm}\nspec:\n  targetRef: {kind: Deployment, name: chat}\n  service: {port: 8000}\n---\nenv:", "service: {port"),
    edit("PS401", ROLLOUT, "subset: canary}, weight: 0}", "subset: canary}, weight: 1}", "    route:\n    - {destination: {host: chat.llm.svc.cluster.local, subset: canary}"),
    edit("PS402", ROLLOUT, "setWeight: 100", "setWeight: 50", "trafficRouting"),
    edit("PS402", ROLLOUT, "routes: [canary]", "routes: [canaries]", "trafficRouting"),
    edit("PS402", ROLLOUT, "name: llm.gateways, routes: [canary]", "name: llm.gateways", "trafficRouting"),
    edit("PS402", ROLLOUT, "    - headers: {x-penstock-version: {exact: canary}}\n", "    - headers: {x-user: {exact: me}}\n", "delegation: true"),
    edit("PS403", ISTIO, "x-penstock-model: {exact: chat}", "x-penstock-model: {exact: chats}", "{exact: chats}"),
    edit("PS404", API, "weight: 95}", "weight: 94}\n        - {name: next, weight: 1}", "name: next"),
    edit("PS405", ISTIO, "  - {name: canary, labels: {version: canary}}\n", "", "subset: canary"),
    edit("PS406", ISTIO, "kind: ScaledObject\nmetadata: {name: chat-canary", "kind: ScaledJob\nmetadata: {name: chat-canary", r#"{"name": "canary", "weight": 5}"#),
    edit("PS407", ISTIO, "  hosts: [\"llm.example.com\"]\n  gateways", "  hosts: [\"llm.example.com\", \"ai.example.com\"]\n  gateways", "ai.example.com"),
    edit("PS408", API, "      models:\n", "      hosts:\n      - llm.example.com\n      - ai.example.com\n      models:\n", "ai.example.com"),
    edit("PS404", API, "weight: 5}\n", "weight: 5}\n        - {name: long, weight: 0}\n        rules: [{name: r, versions: [long]}]\n", "{name: long"),
    edit("PS409", API, "weight: 5}\n", "weight: 5}\n        - {name: next, weight: 0}\n        shadow: {version: next, percent: 5}\n", "shadow: {version"),
    edit("PS409", ENVOY, r#"{"cluster": "canary"}}]"#, "{\"cluster\": \"canary\"}}, {\"name\": \"next\", \"weight\": 0}],\n                          \"shadow\": {\"version\": \"next\", \"percent\": 5}", r#""shadow": {"#),
    also("  - matches:\n    - headers: [{name: x-penstock-version, value: canary}]\n", "  - matches:\n    - headers: [{name: x-penstock-shadow, value: next}, {name: x-penstock-version, value: stable}]\n    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: chat-next, port: 8000}}}]\n    backendRefs: [{name: chat-stable, port: 8000}]\n    timeouts: {request: 10m}\n  - matches:\n    - headers: [{name: x-penstock-version, value: canary}]\n", edit("PS410", API, "weight: 5}\n", "weight: 5}\n        - {name: next, weight: 0, model: llama-4}\n        shadow: {version: next, percent: 5}\n", "shadow: {version")),
    also("              - match: {prefix: /, headers: [{name: x-penstock-version, string_match: {exact: canary}}]}\n", "              - match: {prefix: /, headers: [{name: x-penstock-shadow, string_match: {exact: next}}]}\n                route: {cluster: stable, timeout: 0s, request_mirror_policies: [{cluster: ratelimit}]}\n              - match: {prefix: /, headers: [{name: x-penstock-version, string_match: {exact: canary}}]}\n", edit("PS410", ENVOY, r#"{"cluster": "canary"}}]"#, "{\"cluster\": \"canary\"}}, {\"name\": \"next\", \"weight\": 0, \"model\": \"llama-4\"}],\n                          \"shadow\": {\"version\": \"next\", \"percent\": 5}", r#""shadow": {"#)),
    also(r#""name": "stable","#, r#""name": "stable", "model": "llama-4","#, edit("PS411", ENVOY, "  - name: canary\n", "  - name: canary\n    cluster_type: {name: envoy.clusters.aggregate, typed_config: {clusters: [one, stable]}}\n", "clusters: [one, stable]")),

    also("jwtPayload: payload", "jwtPayload: claims", edit("PS501", ISTIO, r#""jwtPayload": "payload""#, r#""jwtPayload": "claims""#, r#""jwtPayload": "claims""#)),
    edit("PS501", ENVOY, "payload_in_metadata: jwt_payload", "payload_in_metadata: claims", r#""from": [{"jwt": "org_id"}]"#),
    edit("PS502", ENVOY, ", payload_in_metadata: jwt_payload", "", r#""from": [{"jwt": "org_id"}]"#),

    edit("PS601", ISTIO, r#"penstock_requests_total{outcome="shed"}"#, r#"penstock_requests_total{outcome="shed",model="chatt"}"#, "chatt"),
    edit("PS602", ISTIO, r#"penstock_requests_total{outcome="shed"}"#, r#"penstock_requests_total{outcome="shed",version=~"stable|next"}"#, "next"),
    edit("PS603", ISTIO, "penstock_ttft_milliseconds_bucket", "penstock_ttft_seconds_bucket", "penstock_ttft_seconds_bucket"),
    edit("PS604", ISTIO, r#"outcome="shed""#, r#"outcome="dropped""#, "dropped"),
    edit("PS604", ISTIO, r#"penstock_requests_total{outcome="shed"}"#, r#"penstock_requests_total{phase="prefill"}"#, "prefill"),
    edit("PS605", ISTIO, "version=\"canary\"})\n      threshold: \"24000\"", "version=\"canary\"})\n      threshold: \"2400\"", "\"2400\""),
    edit("PS605", ISTIO, "version=\"canary\"})\n      threshold: \"24000\"\n", "version=\"canary\"})\n", "    metadata:\n      query: sum(penstock_pending_tokens{model=\"chat\",version=\"canary\"})"),
    edit("PS606", ISTIO, "minReplicaCount: 1", "minReplicaCount: 0", "minReplicaCount: 0"),
    edit("PS606", ISTIO, "  minReplicaCount: 1\n", "", "spec:\n  scaleTargetRef: {name: chat-canary}"),
    edit("PS607", ISTIO, "maxReplicaCount: 4", "maxReplicaCount: 40", "maxReplicaCount: 40"),
    edit("PS608", ISTIO, "metricType: AverageValue", "metricType: Value", "metricType"),
    edit("PS608", ISTIO, r#"sum(penstock_pending_tokens{model="chat",version="stable"})"#, r#"avg(penstock_pending_tokens{model="chat",version="stable"})"#, "avg("),
    edit("PS609", ISTIO, "version=\"canary\"})\n      threshold: \"24000\"\n      ignoreNullValues: \"false\"", "version=\"canary\"})\n      threshold: \"24000\"\n      ignoreNullValues: \"true\"", "ignoreNullValues: \"true\""),
    edit("PS605", SCALING, "threshold: \"24000\"", "threshold: \"2400\"", "\"2400\""),
    edit("PS606", SCALING, "minReplicaCount: 1 # small", "minReplicaCount: 0", "minReplicaCount: 0\n  maxReplicaCount: 8"),
    edit("PS608", SCALING, "metricType: AverageValue # canary", "metricType: Value", "metricType: Value"),
    edit("PS609", SCALING, "ignoreNullValues: \"false\" # canary", "ignoreNullValues: \"true\"", "\"true\""),
    edit("PS610", SCALING, "prefillTokensPerSecond: 12000", "prefillTokensPerSecond: 9000", "query: |- # canary"),
    edit("PS610", SCALING, "decodeTokensPerSecond: 2400", "decodeTokensPerSecond: 1800", "query: |- # canary"),
    edit("PS611", SCALING, "threshold: \"1\"", "threshold: \"24000.0\"", "\"24000.0\""),
    edit("PS612", SCALING, "cooldownPeriod: 1080", "cooldownPeriod: 960", "cooldownPeriod: 960"),
    edit("PS612", SCALING, "  cooldownPeriod: 1080\n", "", "spec:\n  scaleTargetRef: {name: chat-canary}"),
];
