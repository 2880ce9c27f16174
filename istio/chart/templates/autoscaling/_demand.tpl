{{/*
How a version is scaled, as JSON: what autoscaling.defaults says, and over that what the version's own entry does; `deployment` and
`cooldownSeconds` where neither says. `hasFigures`: whether the configuration says what a replica does, so that demand is in replicas.
*/}}
{{- define "penstock.scaling" -}}
{{- $own := get (get .root.Values.autoscaling.models .version.model | default dict) (.version.version | default "default") | default dict -}}
{{- $scale := dict "deployment" .version.name -}}
{{- /* Not merge: that takes a 0 for nothing. */ -}}
{{- range list .root.Values.autoscaling.defaults $own -}}
  {{- range $key, $value := . -}}{{- $_ := set $scale $key $value -}}{{- end -}}
{{- end -}}
{{- if not (hasKey $scale "cooldownSeconds") -}}
  {{- $walk := mul (sub (int64 $scale.max) 1) (int64 $scale.scaleDownPeriodSeconds) -}}
  {{- $_ := set $scale "cooldownSeconds" (add (int64 $scale.scaleDownWindowSeconds) $walk (int64 $scale.scaleDownPeriodSeconds)) -}}
{{- end -}}
{{- $hasFigures := and (gt (int64 .version.prefill) 0) (gt (int64 .version.decode) 0) -}}
{{- $_ := set $scale "hasFigures" $hasFigures -}}
{{- if and (not $hasFigures) (not .version.perReplica) -}}
  {{- fail (printf "config.models: `%s` says neither what a replica does (replica.prefillTokensPerSecond and decodeTokensPerSecond; `penstock plan` makes them of what was measured) nor what one may have waiting (pending.perReplica); autoscaling divides by one of them" .version.model) -}}
{{- end -}}
{{- /* A request that is held is pending. It is held where headers wait. */ -}}
{{- $holds := and .version.holds .root.Values.envoyFilter.enabled -}}
{{- if and (not $hasFigures) (not $holds) (eq (int64 $scale.min) 0) (gt (float64 .version.weight) 0.0) -}}
  {{- fail (printf "autoscaling.models: %s has a min of 0 and a weight: what is drawn to it is answered with 503 and is never pending, so nothing would bring it back. Write 1, say in config.models what a replica does (replica), so that it is scaled by what arrives, or have requests wait for it (coldStart)" .version.name) -}}
{{- end -}}
{{- toJson $scale -}}
{{- end -}}

{{/* The sum of a series over the gateways, each once, however many jobs scrape it. */}}
{{- define "penstock.arrives" -}}
sum(max by (namespace, pod) (rate({{ . }}[1m])))
{{- end -}}

{{/* The work that arrives, in replicas that have nothing else to do: seconds of a replica's time, each second. */}}
{{- define "penstock.work" -}}
{{- $admitted := printf "penstock_admitted_tokens_total{%s,kind=%%q}" .version.series -}}
{{- $prefill := include "penstock.number" .version.prefill -}}
{{ include "penstock.arrives" (printf $admitted "prompt") }} / {{ $prefill }}
- {{ include "penstock.arrives" (printf $admitted "cached") }} / {{ $prefill }}
+ {{ include "penstock.arrives" (printf $admitted "expected") }} / {{ include "penstock.number" .version.decode }}
{{- if gt (float64 .version.share) 0.0 }}
+ ({{ include "penstock.arrives" (printf "penstock_refused_demand_tokens_total{model=%q,reason=\"shed\"}" .version.label) }} or vector(0)) / {{ include "penstock.number" (max (int64 .version.prefill) (int64 .version.decode)) }}
{{- if ne (float64 .version.share) 1.0 }} * {{ include "penstock.number" .version.share }}{{ end }}
{{- end }}
{{- end -}}

{{/*
How many replicas are wanted now: the most of what arrives, what will arrive by the time a new replica serves, and what waits. What waits grows
until the replicas that it asked for serve, so it asks for no more than `surge` times the work that arrives, and at least one, as long as it may
be that they are still to come: what has stood all through a cold start, and for half a minute in which scrapes and the HPA see it, asks without
bound, of a gateway that was there before it. A rate whose series has just begun, or goes on after a gap, climbs for a minute, and is no trend: there is one only where every gateway of that time
was seen all through it; `held`, without one. Nothing is wanted, which is not 0, where a kind of tokens has no rate.
*/}}
{{- define "penstock.replicas" -}}
{{- $work := include "penstock.work" . -}}
{{- $utilization := include "penstock.number" .scale.utilization -}}
{{- $rate := printf "rate(penstock_admitted_tokens_total{%s}[1m])" .version.series -}}
{{- $trend := max 300 (mul 2 (int64 .scale.coldStartSeconds)) -}}
{{- $coming := add 30 (max 60 (int64 .scale.coldStartSeconds)) -}}
{{- $waits := printf "penstock_pending_tokens{%s,phase=\"prefill\"}" .version.series -}}
{{- $readIn := printf "%s / %s" (include "penstock.number" .version.prefill) (include "penstock.number" .scale.backlogSeconds) -}}
max(
  (
    {{- $work | nindent 4 }}
  ) / {{ $utilization }}
  {{- if and (gt (int64 .scale.coldStartSeconds) 0) (not .held) }}
  or label_replace(predict_linear((
    {{- $work | nindent 4 }}
  )[{{ $trend }}s:15s], {{ include "penstock.number" .scale.coldStartSeconds }}) / {{ $utilization }}, "of", "predicted", "", "")
    and on () min(count_over_time((count by (namespace, pod) ({{ $rate }}))[{{ $trend }}s:15s])) >= {{ div $trend 15 }}
  {{- end }}
  {{- if gt (float64 .scale.surge) 0.0 }}
  or label_replace(
    clamp_max(sum(max by (namespace, pod) ({{ $waits }})) / {{ $readIn }}, scalar(clamp_min((
      {{- $work | nindent 6 }}
    ) * {{ include "penstock.number" .scale.surge }}, 1))),
    "of", "backlog", "", "")
  or label_replace(
    sum(max by (namespace, pod) (min_over_time({{ $waits }}[{{ $coming }}s]) and {{ $waits }} offset {{ $coming }}s)) / {{ $readIn }},
    "of", "standing", "", "")
  {{- else }}
  or label_replace(sum(max by (namespace, pod) ({{ $waits }})) / {{ $readIn }}, "of", "backlog", "", "")
  {{- end }}
)
and on () count(count by (kind) ({{ $rate }})) == 3
{{- end -}}

{{/* The tokens that are pending. */}}
{{- define "penstock.pending" -}}
sum(max by (namespace, pod, phase) (penstock_pending_tokens{ {{- .version.series }}}))
{{- end -}}

{{/*
The query of a ScaledObject, of `version`, `scale` and the template that says the demand as PromQL. Where a gateway that was there cannot be scraped
any more, and where nothing is there, the most of the last while counts, without a trend, which is no demand yet: as long as the HPA keeps replicas
anyway, so that this raises nobody.
*/}}
{{- define "penstock.query" -}}
{{- $window := include "penstock.number" .scale.scaleDownWindowSeconds -}}
{{- $series := printf "penstock_pending_tokens{%s}" .version.series -}}
(
  {{- include .demand . | nindent 2 }}
)
unless on () (
  present_over_time({{ $series }}[{{ $window }}s])
  unless on (namespace, pod) {{ $series }}
  and on (namespace, pod) up == 0
)
or max_over_time((
  {{- include .demand (merge (dict "held" true) .) | nindent 2 }}
)[{{ $window }}s:15s])
{{- end -}}
