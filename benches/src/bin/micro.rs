//! scratch
use penstock_benches::sandbox::Sandbox;
fn main() {
    let mut s = Sandbox::new(Some("o200k")).unwrap();
    for t in [
        " the",
        ", ",
        " the,",
        "\n",
        " a",
        " function",
        "The",
        " Internationalization",
        "12",
        " 1",
        "中",
        "的",
        "我们",
        "привет",
        " привет",
        "  x",
        "qz ",
        "x1",
        "{}",
        "}\n",
    ] {
        let text = t.repeat(1000);
        let c = s.count(&text, None).unwrap();
        println!(
            "{:30} {:7.1} fuel per repeat, {:.2} tokens",
            format!("{t:?}"),
            c.fuel as f64 / 1000.0,
            c.tokens as f64 / 1000.0
        );
    }
    for t in [
        "我们 ",
        "我们的事业，",
        "新鲜的青菜，",
        "请您在收到本通知之日起十五个工作日内，",
        " кивала",
        " громкоговорителя",
        " разобрать удалось",
        "qzwxjk,",
        "qzwxjkvbpm,",
        "qzwxjkvbpmzqqx,",
    ] {
        let mut s = Sandbox::new(Some("o200k")).unwrap();
        let c = s.count(t, None).unwrap();
        let c2 = s.count(&format!("{t}{t}"), None).unwrap();
        println!(
            "{:30} {:7} fuel; second {:7}, {} tokens {} bytes",
            format!("{t:?}"),
            c.fuel,
            c2.fuel - c.fuel,
            c.tokens,
            t.len()
        );
    }
}
