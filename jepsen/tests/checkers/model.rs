//! A store small enough to be right: rows on replicas, messages that take their time, outcomes
//! that get lost. What it tells is a history that a correct store may leave.

use std::collections::{BTreeMap, BTreeSet};

use quorate_jepsen::content::mix;
use quorate_jepsen::history::{CONDITION, Entry, FINAL_READS, Kind, NEMESIS, Operation};
use serde_json::{Value, json};

/// Choices that follow from a seed.
pub(crate) struct Draws(u64);

impl Draws {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = mix(self.0);
        usize::try_from(self.0 % bound.max(1) as u64).unwrap()
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<'t, T>(&mut self, from: &'t [T]) -> Option<&'t T> {
        let place = self.below(from.len());
        from.get(place)
    }
}

/// What clients do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Writes, reads and deletes.
    Register,
    /// The same with cas.
    Cas,
    /// Values with contexts.
    Siblings,
    /// Elements that are added.
    Set,
    /// Amounts that are added.
    Counter,
    /// Keys that are put, deleted and listed.
    List,
}

#[derive(Clone)]
pub(crate) struct Shape {
    pub(crate) load: Load,
    pub(crate) replicas: usize,
    /// Replicas that a read or write waits for.
    pub(crate) quorum: usize,
    pub(crate) clients: usize,
    pub(crate) keys: usize,
    pub(crate) calls: usize,
    /// Of a hundred changes, how many have an unknown outcome, and how many certainly fail.
    pub(crate) unknown: usize,
    pub(crate) failing: usize,
    pub(crate) level: &'static str,
}

impl Shape {
    /// One copy: everything is linearizable.
    pub(crate) fn atomic(load: Load) -> Self {
        Self {
            load,
            replicas: 1,
            quorum: 1,
            clients: 5,
            keys: 3,
            calls: 120,
            unknown: 4,
            failing: 4,
            level: "strong",
        }
    }

    /// Three copies, two of which are asked.
    pub(crate) fn majorities(load: Load) -> Self {
        Self { replicas: 3, quorum: 2, level: "strict", ..Self::atomic(load) }
    }

    /// Three copies, one of which is asked; messages to the others take long.
    pub(crate) fn sloppy(load: Load) -> Self {
        Self { quorum: 1, level: "eventual", ..Self::majorities(load) }
    }
}

type Stamp = (u64, usize);

/// What a replica holds of a key: of each load its own part.
#[derive(Clone, Default)]
struct Row {
    last: Option<(Stamp, Option<u64>)>,
    values: BTreeMap<Stamp, Option<u64>>,
    seen: BTreeSet<Stamp>,
    elements: BTreeSet<u64>,
    sum: i64,
}

impl Row {
    fn merge(&mut self, other: &Self) {
        self.last = self.last.max(other.last);
        let stays =
            |dot: &Stamp, there: &Self| there.values.contains_key(dot) || !there.seen.contains(dot);
        let mut values = self.values.clone();
        values.retain(|dot, _| stays(dot, other));
        values.extend(other.values.iter().filter(|(dot, _)| stays(dot, self)));
        self.values = values;
        self.seen.extend(&other.seen);
        self.elements.extend(&other.elements);
        // There is one copy of a counter.
        self.sum = other.sum;
    }

    fn content(&self) -> Option<u64> {
        self.last.and_then(|(_, content)| content)
    }
}

enum Event {
    Begin {
        client: usize,
    },
    /// A change reaches the node that was asked.
    Mint {
        call: usize,
    },
    /// A row reaches a replica; the call hears of it.
    Merge {
        call: usize,
        key: String,
        replica: usize,
        row: Row,
    },
    /// A replica is read.
    Look {
        call: usize,
        replica: usize,
    },
    End {
        call: usize,
        kind: Kind,
    },
}

struct Running {
    client: usize,
    operation: Operation,
    seen: BTreeSet<Stamp>,
    heard: usize,
    found: BTreeMap<String, Row>,
    fate: Fate,
    ended: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Told,
    Unknown,
    Denied,
    /// Its condition is not met.
    Missed,
}

struct World {
    shape: Shape,
    draws: Draws,
    replicas: Vec<BTreeMap<String, Row>>,
    queue: BTreeMap<(u64, u64), Event>,
    queued: u64,
    now: u64,
    entries: Vec<Entry>,
    calls: Vec<Running>,
    begun: usize,
    numbers: u64,
    processes: Vec<usize>,
    contexts: BTreeMap<String, BTreeSet<Stamp>>,
    /// Contexts that each client may use, by key.
    held: BTreeMap<(usize, String), String>,
}

/// A history of `shape` that follows from `seed`; at its end every key is read through every node.
pub(crate) fn history(shape: &Shape, seed: u64) -> Vec<Entry> {
    let mut world = World {
        shape: shape.clone(),
        draws: Draws::new(seed),
        replicas: vec![BTreeMap::new(); shape.replicas],
        queue: BTreeMap::new(),
        queued: 0,
        now: 0,
        entries: Vec::new(),
        calls: Vec::new(),
        begun: 0,
        numbers: 0,
        processes: (0..shape.clients).collect(),
        contexts: BTreeMap::new(),
        held: BTreeMap::new(),
    };
    for client in 0..shape.clients {
        world.schedule(1, Event::Begin { client });
    }
    world.run();
    world.read_finally();
    world.entries
}

impl World {
    /// Lets `event` happen within the next `most` units.
    fn schedule(&mut self, most: usize, event: Event) {
        let after = 1 + self.draws.below(most) as u64;
        self.queued += 1;
        self.queue.insert((self.now + after, self.queued), event);
    }

    fn run(&mut self) {
        while let Some(((time, _), event)) = self.queue.pop_first() {
            self.now = time;
            match event {
                Event::Begin { client } => self.begin(client),
                Event::Mint { call } => self.mint(call),
                Event::Merge { call, key, replica, row } => {
                    self.replicas[replica].entry(key).or_default().merge(&row);
                    self.hear(call);
                }
                Event::Look { call, replica } => self.look(call, replica),
                Event::End { call, kind } => self.end(call, kind),
            }
        }
    }

    fn tell(&mut self, operation: &Operation, kind: Kind, error: Option<&str>) {
        let index = self.entries.len() as u64;
        // A unit of the model is a millisecond; no two lines share a time.
        let time = self.now * 1_000_000 + index;
        self.entries.push(operation.entry(index, time, kind, error.map(str::to_owned)));
    }

    fn begin(&mut self, client: usize) {
        if self.begun == self.shape.calls {
            return;
        }
        self.begun += 1;
        let node = self.draws.below(self.shape.replicas);
        let key = format!("k{}", self.draws.below(self.shape.keys));
        let mut operation = Operation {
            process: self.processes[client].to_string(),
            key: Some(key.clone()),
            node: Some(node + 1),
            mode: Some(self.shape.level.to_owned()),
            ..Operation::default()
        };
        (operation.f, operation.value) = self.choose();
        if operation.f == "list" {
            operation.key = Some("k".to_owned());
        }
        let changes = is_change(&operation);
        if self.shape.load == Load::Siblings && changes && self.draws.chance(70) {
            operation.context = self.held.get(&(client, key.clone())).cloned();
        }
        let seen = operation.context.as_ref().map(|context| self.contexts[context].clone());
        let fate = match self.draws.below(100) {
            draw if changes && draw < self.shape.unknown => Fate::Unknown,
            draw if changes && draw < self.shape.unknown + self.shape.failing => Fate::Denied,
            _ => Fate::Told,
        };
        self.tell(&operation, Kind::Invoke, None);
        let call = self.calls.len();
        self.calls.push(Running {
            client,
            operation,
            seen: seen.unwrap_or_default(),
            heard: 0,
            found: BTreeMap::new(),
            fate,
            ended: false,
        });
        self.send(call, node);
    }

    fn send(&mut self, call: usize, node: usize) {
        let changes = is_change(&self.calls[call].operation);
        match self.calls[call].fate {
            Fate::Denied => return self.schedule(20, Event::End { call, kind: Kind::Fail }),
            Fate::Unknown => {
                self.schedule(40, Event::End { call, kind: Kind::Info });
                if self.draws.chance(40) {
                    return;
                }
            }
            Fate::Told | Fate::Missed => {}
        }
        if changes {
            return self.schedule(10, Event::Mint { call });
        }
        for step in 0..self.shape.quorum {
            let replica = (node + step) % self.shape.replicas;
            self.schedule(15, Event::Look { call, replica });
        }
    }

    fn choose(&mut self) -> (String, Value) {
        let draw = self.draws.below(100);
        let mut number = || {
            self.numbers += 1;
            self.numbers
        };
        let (f, value) = match (self.shape.load, draw) {
            (Load::List, 0..30) => ("list", Value::Null),
            (Load::List, 30..60) => ("delete", Value::Null),
            (Load::List, _) => ("write", json!(number())),
            (Load::Set, 0..60) => ("add", json!(number())),
            (Load::Counter, 0..60) => ("add", json!(i64::try_from(draw % 7).unwrap() - 2)),
            (_, 50..) => ("read", Value::Null),
            (Load::Cas, 0..25) => {
                let old = self.draws.below(usize::try_from(self.numbers).unwrap() + 1) as u64;
                let old = (old > 0).then_some(old);
                self.numbers += 1;
                ("cas", json!([old, self.numbers]))
            }
            (_, 45..50) => ("delete", Value::Null),
            _ => ("write", json!(number())),
        };
        (f.to_owned(), value)
    }

    fn mint(&mut self, call: usize) {
        let running = &self.calls[call];
        let key = running.operation.key.clone().unwrap();
        let node = running.operation.node.unwrap() - 1;
        let stamp = (self.now * 1_000 + call as u64, node);
        let value = running.operation.value.clone();
        let row = self.replicas[node].entry(key.clone()).or_default();
        match running.operation.f.as_str() {
            "write" | "delete" => {
                let content = value.as_u64();
                row.last = row.last.max(Some((stamp, content)));
                if self.shape.load == Load::Siblings {
                    let blind = running.operation.context.is_none();
                    let found = row.seen.clone();
                    let covers = if blind && content.is_none() { &found } else { &running.seen };
                    row.values.retain(|dot, _| !covers.contains(dot));
                    row.seen.extend(covers.iter().copied());
                    row.seen.insert(stamp);
                    row.values.insert(stamp, content);
                }
            }
            "cas" => {
                if value[0].as_u64() != row.content() {
                    if running.fate == Fate::Told {
                        self.calls[call].fate = Fate::Missed;
                        self.schedule(10, Event::End { call, kind: Kind::Fail });
                    }
                    return;
                }
                row.last = Some((stamp, value[1].as_u64()));
            }
            _ if self.shape.load == Load::Counter => row.sum += value.as_i64().unwrap(),
            _ => row.elements.extend(value.as_u64()),
        }
        let row = row.clone();
        if self.shape.load == Load::Siblings && self.draws.chance(50) {
            self.hold(call, &row);
        }
        self.hear(call);
        // Some writes are under way for long.
        let slow = if self.draws.chance(20) { 150 } else { 15 };
        for replica in (0..self.shape.replicas).filter(|replica| *replica != node) {
            let lost = self.calls[call].fate == Fate::Unknown && self.draws.chance(50);
            if !lost {
                let (key, row) = (key.clone(), row.clone());
                self.schedule(slow, Event::Merge { call, key, replica, row });
            }
        }
    }

    /// A write whose value stands alone returns a context.
    fn hold(&mut self, call: usize, row: &Row) {
        let running = &mut self.calls[call];
        if running.fate == Fate::Told && row.values.len() == 1 && running.operation.f == "write" {
            let context = format!("w{call}");
            self.contexts.insert(context.clone(), row.seen.clone());
            running.found.insert(context, Row::default());
        }
    }

    fn hear(&mut self, call: usize) {
        let running = &mut self.calls[call];
        running.heard += 1;
        if running.heard == self.shape.quorum && running.fate == Fate::Told {
            self.schedule(10, Event::End { call, kind: Kind::Ok });
        }
    }

    fn look(&mut self, call: usize, replica: usize) {
        let prefix = self.calls[call].operation.key.clone().unwrap();
        let is_list = self.calls[call].operation.f == "list";
        let rows: Vec<(String, Row)> = self.replicas[replica]
            .iter()
            .filter(|(key, _)| **key == prefix || is_list)
            .map(|(key, row)| (key.clone(), row.clone()))
            .collect();
        for (key, row) in rows {
            self.calls[call].found.entry(key).or_default().merge(&row);
        }
        self.hear(call);
    }

    fn end(&mut self, call: usize, kind: Kind) {
        let client = self.calls[call].client;
        if std::mem::replace(&mut self.calls[call].ended, true) {
            return;
        }
        let mut operation = self.calls[call].operation.clone();
        operation.context = None;
        let error = match (kind, self.calls[call].fate) {
            (Kind::Fail, Fate::Missed) => Some(format!("{CONDITION} not met")),
            (Kind::Fail, _) => Some("refused".to_owned()),
            (Kind::Info, _) => Some("timed out".to_owned()),
            _ => None,
        };
        if kind == Kind::Ok {
            self.answer(call, client, &mut operation);
        }
        self.tell(&operation, kind, error.as_deref());
        if kind == Kind::Info {
            self.processes[client] += self.shape.clients;
        }
        self.schedule(10, Event::Begin { client });
    }

    fn answer(&mut self, call: usize, client: usize, operation: &mut Operation) {
        let running = &self.calls[call];
        let key = operation.key.clone().unwrap();
        let found = running.found.get(&key).cloned().unwrap_or_default();
        match (self.shape.load, operation.f.as_str()) {
            (_, "list") => {
                let shown = running.found.iter().filter(|(_, row)| row.content().is_some());
                operation.value = shown.map(|(key, _)| key.clone()).collect();
            }
            (Load::Siblings, "read") => {
                operation.value = found.values.values().flatten().copied().collect();
                if !found.seen.is_empty() {
                    let context = format!("r{call}");
                    operation.context = Some(context.clone());
                    self.contexts.insert(context.clone(), found.seen);
                    self.held.insert((client, key), context);
                }
            }
            (Load::Siblings, "write") => {
                let context = format!("w{call}");
                if running.found.contains_key(&context) {
                    operation.context = Some(context.clone());
                    self.held.insert((client, key), context);
                }
            }
            (Load::Set, "read") => operation.value = found.elements.iter().copied().collect(),
            (Load::Counter, "read") => operation.value = json!(found.sum),
            (_, "read") => operation.value = json!(found.content()),
            _ => {}
        }
    }

    fn read_finally(&mut self) {
        let mut all: BTreeMap<String, Row> = BTreeMap::new();
        for (key, row) in self.replicas.iter().flatten() {
            all.entry(key.clone()).or_default().merge(row);
        }
        self.replicas.fill(all);
        let mark = Operation {
            process: NEMESIS.to_owned(),
            f: FINAL_READS.to_owned(),
            value: json!({"phase": "begin"}),
            ..Operation::default()
        };
        self.tell(&mark, Kind::Info, None);
        let list = self.shape.load == Load::List;
        let keys: Vec<String> = (0..self.shape.keys).map(|key| format!("k{key}")).collect();
        for node in 0..self.shape.replicas {
            for key in &keys {
                self.read_one("read", key, node);
            }
            if list {
                self.read_one("list", "k", node);
            }
        }
    }

    fn read_one(&mut self, f: &str, key: &str, node: usize) {
        let operation = Operation {
            process: "audit".to_owned(),
            f: f.to_owned(),
            key: Some(key.to_owned()),
            node: Some(node + 1),
            mode: Some(self.shape.level.to_owned()),
            ..Operation::default()
        };
        self.now += 1;
        self.tell(&operation, Kind::Invoke, None);
        let call = self.calls.len();
        self.calls.push(Running {
            client: 0,
            operation,
            seen: BTreeSet::new(),
            heard: 0,
            found: BTreeMap::new(),
            fate: Fate::Told,
            ended: false,
        });
        for replica in 0..self.shape.quorum {
            self.look(call, replica);
        }
        self.now += 1;
        let mut operation = self.calls[call].operation.clone();
        self.answer(call, 0, &mut operation);
        self.tell(&operation, Kind::Ok, None);
        self.queue.clear();
    }
}

fn is_change(operation: &Operation) -> bool {
    !matches!(operation.f.as_str(), "read" | "list")
}
