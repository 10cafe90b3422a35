use quorate_jepsen::checker::Finding;
use quorate_jepsen::history::Entry;
use quorate_jepsen::report::page::page;
use quorate_jepsen::report::{chart, series};
use serde_json::json;

use super::{report, script, split};

/// The values of an attribute in all elements whose beginning is `element`.
fn attributes<'a>(markup: &'a str, element: &str, attribute: &str) -> Vec<&'a str> {
    let start = format!(" {attribute}=\"");
    markup
        .split(element)
        .skip(1)
        .map(|rest| &rest[..rest.find('>').unwrap()])
        .filter_map(|tag| {
            let value = &tag[tag.find(&start)? + start.len()..];
            Some(&value[..value.find('"').unwrap()])
        })
        .collect()
}

fn numbers(markup: &str, element: &str, attribute: &str) -> Vec<f64> {
    attributes(markup, element, attribute).iter().map(|text| text.parse().unwrap()).collect()
}

/// Whether every element that is opened is closed, in order.
fn is_nested(markup: &str) -> bool {
    let mut open: Vec<&str> = Vec::new();
    for tag in markup.split('<').skip(1).map(|rest| &rest[..rest.find('>').unwrap()]) {
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap();
        match (tag.starts_with('/'), tag.ends_with('/')) {
            (true, _) if open.pop() != Some(name) => return false,
            (false, false) if !["meta", "!doctype"].contains(&name) => open.push(name),
            _ => {}
        }
    }
    open.is_empty()
}

#[test]
fn bars_are_as_high_as_the_shares_that_they_show() {
    let report = report("split", &split());

    let drawn = chart::availability(&report);

    // n1: write 1 and the read served, write 2 refused; n2: write 3; n3: write 4.
    let served = numbers(&drawn, "<rect class=\"served\"", "height");
    let refused = numbers(&drawn, "<rect class=\"refused\"", "height");
    let unknown = numbers(&drawn, "<rect class=\"unknown\"", "height");
    assert_eq!((served.len(), refused.len(), unknown.len()), (3, 1, 1));
    for whole in served.iter().chain(&refused).chain(&unknown) {
        assert!((whole - 46.0).abs() < 0.01, "{whole}");
    }
}

#[test]
fn a_step_is_shared_among_the_outcomes_of_its_calls() {
    let report = report(
        "mixed",
        &script::history(
            "1 read k node=1\n1 ok null\n2 read k node=1\n2 fail\n3 read k node=1\n3 info\n4 read k node=1\n4 ok null",
        ),
    );

    let drawn = chart::availability(&report);

    let heights = ["served", "unknown", "refused"]
        .map(|class| numbers(&drawn, &format!("<rect class=\"{class}\""), "height"));
    assert_eq!(heights, [vec![23.0], vec![11.5], vec![11.5]]);
    let tops = ["served", "unknown", "refused"]
        .map(|class| numbers(&drawn, &format!("<rect class=\"{class}\""), "y")[0]);
    assert_eq!([tops[0] - tops[1], tops[1] - tops[2]], [11.5, 11.5]);
}

#[test]
fn faults_lie_behind_the_times_at_which_they_were_and_nodes_that_they_struck() {
    let report = report("split", &split());

    let drawn = chart::availability(&report);

    let lanes = numbers(&drawn, "<rect class=\"lane\"", "x");
    let widths = numbers(&drawn, "<rect class=\"lane\"", "width");
    let span = super::series_seconds(&report);
    let unit = (628.0 - 76.0) / span;
    // The history begins at 1 ms; the split lasts from 1,003 to 1,716 ms.
    assert!((lanes[0] - (76.0 + 1.002 * unit)).abs() < 0.1, "{lanes:?}, {span}");
    assert!((widths[0] - 0.713 * unit).abs() < 0.3, "{widths:?}, {span}");
    // Three nodes are struck by the first, one by the second.
    assert_eq!(numbers(&drawn, "<rect class=\"shadow\"", "x").len(), 4);
}

#[test]
fn everything_is_drawn_within_the_drawing() {
    let report = report("split", &split());

    for drawn in [chart::availability(&report), chart::latency(&report)] {
        let view = attributes(&drawn, "<svg", "viewBox")[0];
        let height: f64 = view.split(' ').next_back().unwrap().parse().unwrap();
        for (attribute, most) in
            [("x", 640.0), ("x1", 640.0), ("x2", 640.0), ("y", height), ("y1", height)]
        {
            for element in ["<rect", "<text", "<line"] {
                for at in numbers(&drawn, element, attribute) {
                    assert!((0.0..=most).contains(&at), "{element} {attribute} {at}");
                }
            }
        }
        let right =
            numbers(&drawn, "<rect", "x").into_iter().zip(numbers(&drawn, "<rect", "width"));
        assert!(right.into_iter().all(|(x, width)| x + width <= 640.0));
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"));
    }
}

#[test]
fn slower_calls_are_drawn_higher() {
    let report = report("split", &split());

    let drawn = chart::latency(&report);

    let path = attributes(&drawn, "<path class=\"line p99\"", "d")[0];
    let heights: Vec<f64> = path
        .split(['M', 'L'])
        .skip(1)
        .map(|point| point.split([' ', 'h']).nth(1).unwrap().parse().unwrap())
        .collect();
    // 1 ms, 10 ms, 200 ms; the decade from 1 to 10 ms is a third of the plot of 220.
    assert_eq!(heights.len(), 3, "{path}");
    assert!((heights[0] - heights[1] - 220.0 / 3.0).abs() < 0.2, "{heights:?}");
    assert!((heights[1] - heights[2] - 220.0 / 3.0 * 20_f64.log10()).abs() < 0.2, "{heights:?}");
}

#[test]
fn a_page_tells_what_was_violated_with_its_proof() {
    let report = report("split", &split());

    let page = page(&report);

    assert_eq!(report.finding(), Finding::Violated);
    assert!(is_nested(&page));
    assert!(page.contains("<title>VIOLATED: split</title>"));
    assert!(page.contains("a read saw write 1, though write 3 was written after that"));
    assert!(page.contains("did NOTHING"));
    assert!(page.contains("n1: 0.0 % served; n2 n3: 50.0 % served"));
    // Each chart has a title and a description, and each is named by its drawing.
    for label in attributes(&page, "<svg", "aria-labelledby") {
        for id in label.split(' ') {
            assert_eq!(page.matches(&format!(" id=\"{id}\"")).count(), 1, "{id}");
        }
    }
    assert_eq!(attributes(&page, "<svg", "aria-labelledby").len(), 3);
}

#[test]
fn a_page_needs_nothing_but_itself() {
    let page = page(&report("split", &split()));

    for foreign in ["<script", "<link", "<img", "src=", "href=", "url(", "@import", "javascript:"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    let addresses: Vec<_> = page.match_indices("http").map(|(at, _)| &page[at..at + 10]).collect();
    assert!(addresses.iter().all(|address| ["http://www", "http-equiv"].contains(address)));
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("width=device-width"));
}

#[test]
fn hostile_names_stay_text_wherever_they_stand() {
    let hostile = "\"><script>alert(1)</script><x y='";
    let mut entries: Vec<Entry> = split();
    for entry in &mut entries {
        entry.process = if entry.process == "nemesis" { "nemesis" } else { hostile }.to_owned();
        entry.process += if entry.process == "nemesis" { "" } else { &entry.f };
        entry.key = entry.key.is_some().then(|| hostile.to_owned());
        entry.error = entry.error.is_some().then(|| hostile.to_owned());
        if entry.process == "nemesis" {
            entry.f += hostile;
            entry.value[hostile] = json!([hostile]);
        }
    }

    let page = page(&report(hostile, &entries));

    assert!(page.matches("&lt;script&gt;alert(1)").count() > 10);
    assert!(!page.contains("<script") && !page.contains("<x "));
    assert!(is_nested(&page));
}

#[test]
fn a_history_of_nothing_has_a_page_and_is_unknown() {
    let only_a_fault = script::history(r#"nemesis kill {"phase":"begin"} node=1"#);
    for entries in [Vec::new(), only_a_fault] {
        let report = report("nothing", &entries);

        let page = page(&report);

        assert_eq!(report.finding(), Finding::Unknown);
        assert!(is_nested(&page));
        assert!(page.contains("? unknown") && !page.contains("NaN"));
        assert_eq!(report.series.steps(), 1);
    }
}

#[test]
fn a_long_history_has_longer_steps_and_none_of_its_calls_is_left_out() {
    let text: String = (0..900).map(|_| "+998 1 read k node=1\n1 ok null\n").collect();
    let report = report("long", &script::history(&text));

    let steps = &report.series.nodes[&1];
    let counted: usize = steps.iter().map(series::Counts::asked).sum();
    assert_eq!(counted, 900);
    assert!(steps.len() <= 181, "{}", steps.len());
    assert_eq!(report.series.step % 1_000_000_000, 0);
}
