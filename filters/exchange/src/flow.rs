//! What is known of a request while it passes the stages.

use std::rc::Rc;

use penstock_dialects::{Dialect, Request};

use crate::body::Body;
use crate::budget::OutputBudget;
use crate::config::checked::has;
use crate::config::{Config, CountEndpoints, Model};
use crate::facts::Facts;
use crate::identity::Caller;
use crate::labels;
use crate::metrics::Serving;
use crate::port::CallId;
use crate::prompt::Prompt;

/// What is known of a request, for all stages.
pub struct Flow {
    /// Under which it is served, to the end.
    pub config: Rc<Config>,
    /// The API that it speaks.
    pub dialect: Dialect,
    /// The record that goes between plugins and into the access log.
    pub facts: Facts,
    /// Who asks.
    pub caller: Caller,
    /// No plugin in front of this one has seen it.
    pub is_first: bool,
    /// A filter in front of this one has left facts of the request.
    pub is_behind: bool,
    /// An earlier plugin in the row has read it, and decided what is decided by reading.
    pub is_known: bool,
    /// It only asks what it would cost: nothing is charged for it.
    pub is_count: bool,
    /// The version that it is to try, as it failed a while ago.
    pub tries: Option<usize>,
    /// The version that would have served it, and is taken back.
    pub rolled_back: Option<String>,
    /// What [`Flow::series`] is where a version was drawn.
    pub place: Option<usize>,
    /// It says something of an answer.
    pub is_feedback: bool,
    /// Its body, as it goes on.
    pub body: Body,
    /// What its body says: from when it has been read until it goes on.
    pub read: Option<Box<Read>>,
    /// How many calls were made for it.
    calls: u32,
}

/// What a request's body says.
pub struct Read {
    /// What is asked.
    pub request: Request,
    /// What its texts cost.
    pub prompt: Prompt,
    /// How much output it may bring.
    pub budget: OutputBudget,
}

impl Flow {
    /// Of a request that has not come yet.
    pub fn new(config: Rc<Config>) -> Self {
        Self {
            config,
            dialect: Dialect::Chat,
            facts: Facts::default(),
            caller: Caller::default(),
            is_first: false,
            is_behind: false,
            is_known: false,
            is_count: false,
            tries: None,
            rolled_back: None,
            place: None,
            is_feedback: false,
            body: Body::default(),
            read: None,
            calls: 0,
        }
    }

    /// The number of the next call.
    pub fn call_id(&mut self) -> CallId {
        self.calls = self.calls.wrapping_add(1);
        CallId(self.calls)
    }

    /// Whether its server counts it, so that nothing of it needs to be counted here.
    pub fn is_counted_elsewhere(&self) -> bool {
        self.is_count && self.config.count_endpoints == CountEndpoints::Forward
    }

    /// The model that serves it.
    pub fn model<'c>(&self, config: &'c Config) -> Option<&'c Model> {
        config.model(&self.facts.model)
    }

    /// Whether whoever asks may use the model.
    pub fn may_use(&self, model: &Model) -> bool {
        match self.config.tenant(&self.facts.tenant) {
            Some(tenant) => tenant.may_use(&model.name),
            None => has(self.config.unnamed_models.as_deref(), &model.name),
        }
    }

    /// The labels of the model and of the version.
    pub fn served_by(&self) -> [&str; 2] {
        [labels::model(&self.facts.model), labels::version(self.facts.version.as_deref())]
    }

    /// The place of what serves it among all that do; `None` before that is chosen.
    pub fn series(&self) -> Option<usize> {
        if self.place.is_some() {
            return self.place;
        }
        let model = self.model(&self.config)?;
        let version = match self.facts.version.as_deref() {
            None if model.versions.is_empty() => 0,
            drawn => model.versions.iter().position(|version| Some(version.name.as_str()) == drawn)?,
        };
        Some(model.series.saturating_add(version))
    }

    /// What serves it, and for whom, by their places; `None` before that is chosen.
    pub fn serving(&self) -> Option<Serving> {
        self.series().map(|place| Serving { place, tenant: self.config.tenant_place(&self.facts.tenant) })
    }

    /// The label of the tenant: only named ones have one.
    pub fn tenant_label(&self) -> &str {
        self.config.tenant(&self.facts.tenant).map_or(labels::OTHER, |tenant| tenant.name.as_str())
    }
}
