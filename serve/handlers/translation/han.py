"""Which Chinese a text is in: simplified, traditional or Cantonese, by its characters."""

from __future__ import annotations

#: Common characters, each simplified one followed by its traditional form.
_PAIRS = (
    "国國这這个個们們来來时時说說对對会會过過学學习習开開关關长長门門问問间間东東车車马馬鸟鳥鱼魚见見觉覺现現实實应應该該"
    "经經济濟发發还還进進远遠运運边邊选選认認识識话話语語读讀书書写寫让讓请請谢謝谁誰调調谈談论論设設计計记記许許证證"
    "试試详詳误誤诉訴词詞译譯变變难難观觀欢歡权權劝勸汉漢鸡雞戏戲双雙圣聖凤鳳几幾机機杀殺杂雜师師带帶帮幫币幣"
    "广廣庄莊庆慶床牀库庫废廢张張强強弹彈归歸当當录錄彻徹忆憶忧憂怀懷态態总總恋戀恶惡惊驚惯慣愿願战戰户戶扫掃扩擴"
    "执執扬揚担擔择擇护護报報损損换換据據断斷无無旧舊显顯晓曉术術条條极極构構标標树樹桥橋样樣档檔检檢楼樓"
    "欧歐残殘毁毀毕畢气氣汤湯沟溝没沒泪淚洁潔浅淺测測浓濃湿濕湾灣满滿滚滾灭滅灯燈灵靈炉爐点點炼煉烦煩热熱"
    "爱愛爷爺牵牽独獨狮獅猎獵猫貓环環玛瑪电電画畫畅暢疗療盖蓋盘盤着著码碼确確础礎礼禮离離种種积積称稱稳穩穷窮"
    "窗窗竞競笔筆筑築签簽简簡类類粮糧纪紀约約级級纯純纸紙纳納线線练練组組细細织織终終绍紹给給绝絕统統继繼续續维維绿綠网網"
    "罗羅罚罰职職联聯肃肅胜勝脑腦脚腳脸臉艺藝节節苏蘇苹蘋药藥获獲营營虑慮虽雖蓝藍补補装裝规規视視亲親"
    "贝貝负負财財责責败敗货貨质質购購贸貿费費贵貴资資赛賽赵趙赶趕跃躍践踐轨軌转轉轮輪软軟轻輕较較输輸辆輛辞辭"
    "达達迁遷迟遲适適递遞遗遺邮郵酿釀释釋里裡鉴鑒针針钟鐘钱錢铁鐵铅鉛银銀错錯键鍵锁鎖镇鎮镜鏡闭閉闲閒闻聞阅閱"
    "队隊阳陽阴陰阵陣阶階际際陆陸险險随隨隐隱静靜韩韓页頁顶頂顺順须須预預领領频頻题題颜顏风風飞飛饭飯饮飲饿餓馆館"
    "驾駕验驗骑騎骗騙鲜鮮麦麥黄黃齐齊龙龍龄齡么麼为為义義乐樂买買卖賣产產亲親从從仅僅价價众眾优優伟偉传傳伤傷"
    "体體余餘侧側侨僑倾傾偿償儿兒党黨兰蘭兴興养養军軍农農决決况況冻凍净淨凉涼减減凭憑击擊创創别別剧劇动動劳勞势勢"
    "务務区區医醫华華协協单單卖賣卫衛历歷压壓厅廳参參叶葉号號听聽启啟员員响響哑啞唤喚团團园園围圍图圖圆圓"
    "场場坏壞块塊坚堅声聲处處备備复復够夠头頭夺奪奋奮妇婦妈媽孙孫宁寧宝寶宫宮宽寬宾賓寻尋导導寿壽将將尔爾层層岁歲岛島"
)
SIMPLIFIED = frozenset(_PAIRS[0::2]) - frozenset(_PAIRS[1::2])
TRADITIONAL = frozenset(_PAIRS[1::2]) - frozenset(_PAIRS[0::2])
#: Characters that written Cantonese has and Mandarin hardly.
CANTONESE = frozenset("嘅咗喺唔佢哋冇嚟啲噉咁嗰乜嘢啱攞瞓搵畀俾嘥咩喎㗎囉嗱唞掂攰靚諗咪冚嚿屙拎")


def variant(text: str) -> tuple[str, float]:
    """The code of the Chinese that ``text`` is in, and how sure that is, 0 to 1."""
    simplified = sum(char in SIMPLIFIED for char in text)
    traditional = sum(char in TRADITIONAL for char in text)
    cantonese = sum(char in CANTONESE for char in text) + text.count("係") + text.count("點解") + text.count("而家")
    if cantonese >= 2 or (cantonese and cantonese * 12 >= len(text)):
        return "yue", min(0.99, 0.7 + 0.1 * cantonese)
    told = simplified + traditional
    if not told:
        return "zh", 0.6  # What both scripts share; most such texts are simplified.
    share = max(simplified, traditional) / told
    return ("zh_tw" if traditional > simplified else "zh"), share
