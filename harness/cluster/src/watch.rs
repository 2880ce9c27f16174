//! Follows the objects of a kind: what there is, and every change.

use std::collections::HashMap;
use std::fmt::Debug;
use std::time::Duration;

use futures_util::TryStreamExt;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

/// What became of an object.
#[derive(Clone, Debug)]
pub enum Change<K> {
    /// It is there, like this.
    Is(K),
    /// It is gone; how it was last.
    Gone(K),
}

/// Calls back with every object and every change, for as long as it is polled. Where the server ends a watch it lists anew, and calls back
/// with what it had not seen.
pub async fn follow<K>(api: Api<K>, mut see: impl FnMut(Change<K>))
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    // By uid: an object of the same name may be another one.
    let mut known: HashMap<String, K> = HashMap::new();
    loop {
        // A server that does not answer is on its way down, and this with it.
        if watch(&api, &mut known, &mut see).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn watch<K>(api: &Api<K>, known: &mut HashMap<String, K>, see: &mut impl FnMut(Change<K>)) -> kube::Result<()>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let list = api.list(&ListParams::default()).await?;
    let version = list.metadata.resource_version.unwrap_or_default();
    let mut before = std::mem::take(known);
    for object in list.items {
        let uid = object.uid().unwrap_or_default();
        let seen = before.remove(&uid).is_some_and(|old| old.resource_version() == object.resource_version());
        known.insert(uid, object.clone());
        if !seen {
            see(Change::Is(object));
        }
    }
    before.into_values().for_each(|gone| see(Change::Gone(gone)));
    let mut events = std::pin::pin!(api.watch(&WatchParams::default(), &version).await?);
    while let Some(event) = events.try_next().await? {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                known.insert(object.uid().unwrap_or_default(), object.clone());
                see(Change::Is(object));
            }
            WatchEvent::Deleted(object) => {
                known.remove(&object.uid().unwrap_or_default());
                see(Change::Gone(object));
            }
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(_) => break,
        }
    }
    Ok(())
}
