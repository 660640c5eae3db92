"""Each lab measured against the way one first writes it, on this machine: `llmpipe bench lab1`.

Read `plan`, what a bench is made of; `run`, which measures it; `classic` and `lab1`, two ways to do
one thing; then `lab2` to `lab4`. `memory`, `layouts` and `scaling` are measured once, beside a lab;
`report` shows it all.
"""
