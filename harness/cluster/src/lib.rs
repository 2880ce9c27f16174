//! The control plane of Kubernetes and Istio as it is, without nodes: etcd, kube-apiserver, istiod, a registry for modules, a rate limit service, an endpoint picker, gateways that
//! Istio's agent runs (a stock Envoy, whose modules the agent fetches), and what scales Deployments ([`scaling`]). Model servers are processes of this one.
//!
//! All of it is upstream code, built by `cargo xtask cluster` from the Go modules that the directories here pin. It runs in the namespaces that
//! `cargo xtask` makes around the process that uses this crate: the servers listen on all addresses and on their usual ports, and all of them end
//! with the first process there. There is no kubelet and no scheduler: a gateway is a process with a gateway's labels, a model server is an
//! endpoint on loopback, and who takes pods for ready is [`pods`].
//!
//! Like the harness, this knows nothing of the filters but the module, headers and metrics.

pub mod certificates;
pub mod closed_loop;
pub mod gateway;
pub mod istiod;
pub mod keys;
pub mod kubernetes;
pub mod objects;
pub mod picker;
pub mod place;
pub mod pods;
pub mod process;
pub mod rate_limit;
pub mod registry;
pub mod scaling;
pub mod servers;
pub mod watch;
