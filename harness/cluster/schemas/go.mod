// Only the CustomResourceDefinitions of these are used, so nothing imports them: `go mod tidy` would leave nothing here.
module penstock/schemas

go 1.26.7

require (
	github.com/envoyproxy/gateway v1.9.1
	github.com/fluxcd/flagger v1.44.0
	github.com/prometheus-operator/prometheus-operator v0.85.0
)
