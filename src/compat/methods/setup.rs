//! `setup/…`: the steps that prepare a sandbox.

use super::{Nothing, method};
use crate::compat::board::{At, Progress};
use crate::compat::socket::{Answer, Answered, Client, Fault, Method, code};
use serde::Deserialize;
use std::sync::Arc;

pub(super) const METHODS: &[Method] = &[
    method!("setup/get", Read, Free, get),
    method!("setup/init", Write, Free, init),
    method!("setup/skip", Write, Free, skip),
    method!("setup/skipAll", Write, Free, skip_all),
    method!("setup/setStep", Write, Free, set_step),
    method!("setup/enable", Write, Free, switch),
    method!("setup/disable", Write, Free, switch),
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Skip {
    step_index_to_skip: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SetStep {
    step_index: usize,
}

fn held(progress: &Progress) -> Answered {
    Ok(Answer::of(progress)?.holding())
}

async fn get(client: &Arc<Client>, _: Nothing) -> Answered {
    held(&At::of(client).progress(client.life()).await)
}

async fn init(client: &Arc<Client>, _: Nothing) -> Answered {
    client.writer()?;
    held(&At::of(client).begin_again().await)
}

async fn skip(client: &Arc<Client>, params: Skip) -> Answered {
    client.writer()?;
    held(&At::of(client).skip(Some(params.step_index_to_skip)).await?)
}

async fn skip_all(client: &Arc<Client>, _: Nothing) -> Answered {
    client.writer()?;
    held(&At::of(client).skip(None).await?)
}

async fn set_step(client: &Arc<Client>, params: SetStep) -> Answered {
    client.writer()?;
    held(&At::of(client).set_step(params.step_index)?)
}

async fn switch(_: &Arc<Client>, _: Nothing) -> Answered {
    let text = "the setup can't be switched on or off here; take its steps out of .codesandbox/tasks.json";
    Err(Fault::new(code::UNAVAILABLE, text))
}
